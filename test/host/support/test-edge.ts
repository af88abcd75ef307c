import { createServer, type IncomingMessage, STATUS_CODES } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { type CryptoKey, exportJWK, generateKeyPair } from "jose";
import { type WebSocket, WebSocketServer } from "ws";
import { FAILURES, type Result, success } from "../../../protocol/failures.ts";
import { FEED_PING, FEED_PONG, type FeedDownstream, type FeedUpstream } from "../../../protocol/feed.ts";
import type { Floor } from "../../../protocol/floors.ts";
import {
  type MachineStatesReport,
  machineStatesReport,
  type SessionCheckRequest,
  sessionCheckRequest,
} from "../../../protocol/service-api.ts";
import { hostAudience, signTicket, type TicketClaims } from "../../../protocol/ticket.ts";
import { EnrolmentDesk } from "../../service/enrolment-desk.ts";

export const ISSUER = "https://edge.test";
export const REGION = "test";
export const SERVICE_KEY = "service-key-of-the-test";
export const SUBJECT = "identity:aaaaaaaaaaaaaaaa";

/** What an edge shows to hosts: the key set, and the feed. Everything received is kept. */
export interface TestEdge {
  readonly url: string;
  readonly received: FeedUpstream[];
  /** What the host told of its machines, oldest first. */
  readonly states: MachineStatesReport["states"];
  /** Which VMs' states the edge could not pass on; null: it gives no usable answer. */
  onStates: (report: MachineStatesReport) => readonly string[] | null;
  /** Sessions that the host asked about. */
  readonly checked: SessionCheckRequest[];
  /** What the edge says of a session; null: it gives no usable answer. */
  onSessionCheck: (asked: SessionCheckRequest) => Result<{ epoch: number }> | null;
  /** While set, every question and every dialling is answered with 503. */
  isOut: boolean;
  /** Floors of the next welcome. */
  readonly floors: Floor[];
  send(message: FeedDownstream): void;
  /** Cuts the feed's sockets; they may dial again. */
  cut(): void;
  /** A ticket for a host, `claims` over sane ones, signed with the published key. */
  ticket(hostId: string, claims: Partial<TicketClaims>): Promise<string>;
  /** Knows the hosts that enrolled. */
  readonly desk: EnrolmentDesk;
  readonly key: CryptoKey;
  /** Id of the key that signs now. */
  readonly kid: string;
  /** Publishes another key alone and signs with it. */
  replaceKey(): Promise<void>;
  /** A ticket signed with the key that was there first. */
  ticketOfFirstKey(hostId: string, claims: Partial<TicketClaims>): Promise<string>;
  close(): Promise<void>;
}

export async function startTestEdge(): Promise<TestEdge> {
  const firstKey = await newKey("test-key");
  let signing = firstKey;
  const received: FeedUpstream[] = [];
  const states: MachineStatesReport["states"] = [];
  const floors: Floor[] = [];
  const checked: SessionCheckRequest[] = [];
  const sockets = new Set<WebSocket>();
  const desk = new EnrolmentDesk(SERVICE_KEY, ISSUER, REGION);
  const bodyOf = (request: IncomingMessage) => new Response(Readable.toWeb(request) as ReadableStream).json();
  const server = createServer(async (request, response) => {
    if (edge.isOut) {
      response.writeHead(503).end();
      return;
    }
    if (request.url === "/service/v1/enrolments") {
      const enrolled = desk.enrol(request.headers.authorization, await bodyOf(request));
      response.writeHead(enrolled.ok ? 200 : 401, { "content-type": "application/json" });
      response.end(JSON.stringify(enrolled.ok ? enrolled.value : enrolled.failure));
      return;
    }
    if (request.url === "/service/v1/session-checks") {
      const asked = sessionCheckRequest.parse(await bodyOf(request));
      checked.push(asked);
      const answer = edge.onSessionCheck(asked);
      const status = answer === null ? 502 : answer.ok ? 200 : FAILURES[answer.failure.kind].v5[1];
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(answer === null ? null : answer.ok ? answer.value : answer.failure));
      return;
    }
    if (request.url === "/service/v1/machine-states") {
      const report = machineStatesReport.parse(await bodyOf(request));
      const untold = edge.onStates(report);
      if (untold !== null) states.push(...report.states.filter(({ vm }) => !untold.includes(vm)));
      response.writeHead(untold === null ? 502 : 200, { "content-type": "application/json" });
      response.end(JSON.stringify(untold === null ? null : { untold }));
      return;
    }
    response.writeHead(request.url === "/.well-known/jwks.json" ? 200 : 404, { "content-type": "application/json" });
    response.end(JSON.stringify({ keys: [signing.publicJwk] }));
  });
  const feed = new WebSocketServer({ noServer: true });
  server.on("upgrade", async (request, socket, head) => {
    // Node takes its own listener away, and who dials may be gone before it is answered.
    socket.on("error", () => undefined);
    const status = edge.isOut ? 503 : (await desk.admits(request.headers.authorization)) ? 101 : 401;
    if (status !== 101) {
      socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\n\r\n`);
      return;
    }
    feed.handleUpgrade(request, socket, head, (accepted) => {
      sockets.add(accepted);
      accepted.on("close", () => sockets.delete(accepted));
      accepted.on("message", (data) => {
        const text = data.toString();
        if (text === FEED_PING) {
          accepted.send(FEED_PONG);
          return;
        }
        const message = JSON.parse(text) as FeedUpstream;
        received.push(message);
        if (message.type === "hello") {
          accepted.send(JSON.stringify({ type: "welcome", region: REGION, issuer: ISSUER, floors }));
        }
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const edge: TestEdge = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    states,
    onStates: () => [],
    checked,
    onSessionCheck: () => success({ epoch: 1_000_000 }),
    isOut: false,
    floors,
    desk,
    key: firstKey.privateKey,
    get kid() {
      return signing.kid;
    },
    replaceKey: async () => {
      signing = await newKey("next-key");
    },
    ticketOfFirstKey: (hostId, claims) => signTicket({ ...saneClaims(hostId), ...claims }, firstKey.privateKey, firstKey.kid),
    send: (message) => {
      for (const socket of sockets) socket.send(JSON.stringify(message));
    },
    cut: () => {
      for (const socket of sockets) socket.terminate();
    },
    ticket: (hostId, claims) => signTicket({ ...saneClaims(hostId), ...claims }, signing.privateKey, signing.kid),
    close: async () => {
      for (const socket of sockets) socket.terminate();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return edge;
}

async function newKey(kid: string) {
  const { publicKey, privateKey } = await generateKeyPair("EdDSA", { crv: "Ed25519" });
  return { kid, privateKey, publicJwk: { ...(await exportJWK(publicKey)), kid, alg: "EdDSA", use: "sig" } };
}

let ticketCount = 0;

/** Claims of a good ticket for this moment; the caller sets `vm`, `op` and `user`. */
export function saneClaims(hostId: string): TicketClaims {
  const now = Math.floor(Date.now() / 1000);
  ticketCount += 1;
  return {
    iss: ISSUER,
    aud: [hostAudience(hostId)],
    sub: SUBJECT,
    jti: `ticket-number-${String(ticketCount).padStart(8, "0")}`,
    vm: "a".repeat(20),
    user: null,
    op: "read",
    epoch: 1,
    read_at: now,
    iat: now,
    exp: now + 60,
    azp: "edge",
    host_url: "http://127.0.0.1:1",
    cred: "tokenrow",
  };
}
