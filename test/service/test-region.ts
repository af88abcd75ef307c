import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import { FEED_PING, type FeedDownstream, type FeedUpstream, feedPong } from "../../protocol/feed.ts";
import type { Floor } from "../../protocol/floors.ts";
import type { ServiceCredential } from "../../service/credential.ts";
import { EnrolmentDesk } from "./enrolment-desk.ts";

const ISSUER = "https://edge.test";

export interface TestRegion {
  readonly url: string;
  readonly desk: EnrolmentDesk;
  readonly credential: ServiceCredential;
  readonly received: FeedUpstream[];
  /** Floors and withdrawn keys of the next welcome. */
  readonly floors: Floor[];
  readonly voidedKeys: string[];
  /** Says this time with every welcome from now on. */
  setTime(now: number): void;
  send(message: FeedDownstream): void;
  sendText(text: string): void;
  /** Says from now on that so many floors were sent. */
  count(number: number): void;
  /** Raises a floor of which members are told by a welcome only. */
  lose(floor: Floor): void;
  /** Breaks every connection. */
  cut(): void;
  /** Answers nothing at all any more. */
  mute(muted: boolean): void;
  /** Keeps the welcome back until `welcome` is called. */
  holdWelcome(hold: boolean): void;
  welcome(): void;
  /** Answers upgrades with this HTTP status; null: accepts them. */
  failWith(status: number | null): void;
  /** Heartbeats answered, upgrades asked for, connections accepted so far, connections open now. */
  pings(): number;
  attempts(): number;
  connections(): number;
  open(): number;
  close(): Promise<void>;
}

/** The feed's other end, with every fault a test wants. */
export async function startTestRegion(options: {
  floors?: Floor[];
  holdWelcome?: boolean;
  failWith?: number;
  refuse?: string;
}): Promise<TestRegion> {
  const desk = new EnrolmentDesk("service-key-of-the-test", ISSUER, "test");
  const credential = await desk.credential();
  const received: FeedUpstream[] = [];
  const floors = options.floors ?? [];
  const voidedKeys: string[] = [];
  const sockets = new Set<WebSocket>();
  const count = { pings: 0, attempts: 0, connections: 0 };
  let hold = options.holdWelcome ?? false;
  let status: number | null = options.failWith ?? null;
  let muted = false;
  let sent = 0;
  let now: number | undefined;

  const sendText = (text: string) => {
    for (const socket of sockets) socket.send(text);
  };
  const send = (message: FeedDownstream) => sendText(JSON.stringify(message));
  const welcome = () => send({ type: "welcome", region: "test", issuer: ISSUER, floors, number: sent, voidedKeys, now });

  const server = createServer((_request, response) => response.writeHead(404).end());
  const feed = new WebSocketServer({ noServer: true });
  server.on("upgrade", async (request, socket, head) => {
    // Node takes its own listener away, and who dials may be gone before it is answered.
    socket.on("error", () => undefined);
    count.attempts += 1;
    const refusal = (await desk.admits(request.headers.authorization)) ? status : 401;
    if (refusal !== null) {
      socket.end(`HTTP/1.1 ${refusal} Refused\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
      return;
    }
    feed.handleUpgrade(request, socket, head, (accepted) => {
      count.connections += 1;
      sockets.add(accepted);
      accepted.on("close", () => sockets.delete(accepted));
      accepted.on("message", (data) => {
        const text = data.toString();
        if (muted) return;
        if (text === FEED_PING) {
          count.pings += 1;
          accepted.send(feedPong(sent));
          return;
        }
        const message = JSON.parse(text) as FeedUpstream;
        received.push(message);
        if (message.type !== "hello") return;
        if (options.refuse !== undefined) send({ type: "refused", message: options.refuse });
        else if (!hold) welcome();
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    desk,
    credential,
    received,
    floors,
    voidedKeys,
    setTime: (time) => {
      now = time;
    },
    send,
    sendText,
    count: (number) => {
      sent = number;
    },
    lose: (floor) => {
      floors.push(floor);
      sent += 1;
    },
    cut: () => {
      for (const socket of sockets) socket.terminate();
    },
    mute: (quiet) => {
      muted = quiet;
    },
    holdWelcome: (held) => {
      hold = held;
    },
    welcome,
    failWith: (failing) => {
      status = failing;
    },
    pings: () => count.pings,
    attempts: () => count.attempts,
    connections: () => count.connections,
    open: () => sockets.size,
    close: async () => {
      for (const socket of sockets) socket.terminate();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
