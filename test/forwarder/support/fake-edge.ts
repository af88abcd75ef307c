import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair } from "jose";
import { type WebSocket, WebSocketServer } from "ws";
import { z } from "zod";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import { FAILURES, type Failure, type FailureKind, failure, type Result, success } from "../../../protocol/failures.ts";
import {
  FEED_PING,
  FEED_PONG,
  type FeedDownstream,
  type FeedUpstream,
  feedUpstream,
  type SshSession,
} from "../../../protocol/feed.ts";
import type { Floor } from "../../../protocol/floors.ts";
import { newObjectName } from "../../../protocol/ids.ts";
import { type SshTicketRequest, sessionCheckRequest, sshTicketRequest } from "../../../protocol/service-api.ts";
import { identitySubject, type Subject } from "../../../protocol/subjects.ts";
import { forwarderAudience, hostAudience, signTicket, type TicketClaims } from "../../../protocol/ticket.ts";
import { parseSshPublicKey } from "../../../service/ssh-keys.ts";
import { EnrolmentDesk } from "../../service/enrolment-desk.ts";

export const REGION = "test-region";
export const HOST_ID = "hosthosthosthost";
const ISSUER = "https://edge.test";

const clientTicketBody = z.object({ linuxUser: z.string().nullish(), publicKey: z.string().nullish() });

/** What a token may do at the fake edge. */
export interface FakeToken {
  readonly subject: Subject;
  readonly credentialId: string;
  readonly vmId: string;
  readonly allowedUsers: readonly string[] | null;
  epoch: number;
  revoked: boolean;
}

/** The edge as a forwarder sees it: tickets, session checks, key set and feed, with no rule beyond `FakeToken`'s. */
export class FakeEdge {
  readonly issuer = ISSUER;
  readonly serviceKey = "pss_test-service-key";
  /** Knows the forwarders that enrolled. */
  readonly desk = new EnrolmentDesk(this.serviceKey, ISSUER, REGION);
  readonly ticketRequests: SshTicketRequest[] = [];
  sessionChecks = 0;
  /** Every HTTP request, for tickets, checks, keys or anything else. */
  requests = 0;
  keyFetches = 0;
  /** The connections that forwarders have told of, by id. */
  readonly sshSessions = new Map<string, SshSession>();
  /** Account of every VM. */
  readonly account = newObjectName(platformRandomBytes);
  hostUrl = "http://127.0.0.1:1";
  /** Where tickets for clients say that the forwarder is. */
  sshAddress = "127.0.0.1:1";
  /** When set, every ticket request is answered with this status and body. */
  broken: { status: number; body: string } | null = null;
  /** Changes the claims of the next tickets. */
  tamper: (claims: TicketClaims) => TicketClaims = (claims) => claims;
  /** Resolved before a ticket request is answered. */
  beforeTicket: Promise<void> = Promise.resolve();
  /** The welcome and its heartbeats are withheld while true. */
  feedSilent = false;
  readonly #tokens = new Map<string, FakeToken>();
  readonly #floors = new Map<Subject, Floor>();
  readonly #feeds = new Set<WebSocket>();
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  readonly #sockets = new WebSocketServer({ noServer: true });
  #keys: Awaited<ReturnType<typeof generateKeyPair>> | null = null;
  #keyId = "test-key";
  url = "";

  async start(port = 0): Promise<void> {
    this.#keys ??= await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true });
    this.#server.on("upgrade", async (request, socket, head) => {
      // Node takes its own listener away, and who dials may be gone before it is answered.
      socket.on("error", () => undefined);
      if (await this.desk.admits(request.headers.authorization))
        this.#sockets.handleUpgrade(request, socket, head, (feed) => this.#serveFeed(feed));
      else socket.end("HTTP/1.1 401 Unauthorized\r\nconnection: close\r\n\r\n");
    });
    await new Promise<void>((resolve) => this.#server.listen(port, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    for (const feed of this.#feeds) feed.terminate();
    this.#server.closeAllConnections();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  addToken(token: string, vmId: string, allowedUsers: readonly string[] | null = null): FakeToken {
    const row: FakeToken = {
      subject: identitySubject(newObjectName(platformRandomBytes)),
      credentialId: newObjectName(platformRandomBytes),
      vmId,
      allowedUsers,
      epoch: 1,
      revoked: false,
    };
    this.#tokens.set(token, row);
    return row;
  }

  /** Sends a message to every forwarder. */
  push(message: FeedDownstream): void {
    for (const feed of this.#feeds) feed.send(JSON.stringify(message));
  }

  /** Open feeds. */
  get forwarders(): ReadonlySet<unknown> {
    return this.#feeds;
  }

  /** Breaks every feed; forwarders dial again. */
  breakFeeds(): void {
    for (const feed of this.#feeds) feed.terminate();
  }

  /** Raises the subject's epoch and pushes the floor. */
  raiseFloor(row: FakeToken): void {
    row.epoch += 1;
    const floor: Floor = { sub: row.subject, epoch: row.epoch, at: Date.now() };
    this.#floors.set(row.subject, floor);
    if (!this.feedSilent) for (const feed of this.#feeds) feed.send(JSON.stringify({ type: "floor", floor }));
  }

  /** Signs a ticket; by default what a client would be handed for SSH. */
  async ticket(row: FakeToken, changes: Partial<TicketClaims> = {}): Promise<string> {
    if (this.#keys === null) throw new Error("not started");
    const now = Math.floor(Date.now() / 1000);
    const claims: TicketClaims = {
      iss: ISSUER,
      aud: [hostAudience(HOST_ID), forwarderAudience(REGION)],
      sub: row.subject,
      jti: newObjectName(platformRandomBytes),
      vm: row.vmId,
      user: "root",
      op: "ssh",
      epoch: row.epoch,
      read_at: now,
      iat: now,
      exp: now + 60,
      azp: "client",
      host_url: this.hostUrl,
      cred: row.credentialId,
      acct: this.account,
      ...changes,
    };
    return signTicket(this.tamper(claims), this.#keys.privateKey, this.#keyId);
  }

  /** Signs and publishes with another key from now on. */
  async rotateKeys(): Promise<void> {
    this.#keys = await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true });
    this.#keyId = `${this.#keyId}-next`;
  }

  async jwks(): Promise<{ keys: object[] }> {
    if (this.#keys === null) throw new Error("not started");
    return { keys: [{ ...(await exportJWK(this.#keys.publicKey)), kid: this.#keyId, alg: "EdDSA", use: "sig" }] };
  }

  #noteSessions(message: FeedUpstream): void {
    if (message.type !== "ssh-sessions") return;
    for (const session of message.opened) this.sshSessions.set(session.id, session);
    for (const id of message.closed) this.sshSessions.delete(id);
  }

  #serveFeed(feed: WebSocket): void {
    this.#feeds.add(feed);
    feed.on("close", () => this.#feeds.delete(feed));
    feed.on("error", () => undefined);
    feed.on("message", (data) => {
      if (this.feedSilent) return;
      const text = data.toString();
      if (text === FEED_PING) feed.send(FEED_PONG);
      else if (text.includes("ssh-sessions")) this.#noteSessions(feedUpstream.parse(JSON.parse(text)));
      else feed.send(JSON.stringify({ type: "welcome", region: REGION, issuer: ISSUER, floors: [...this.#floors.values()] }));
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests += 1;
    if (request.url === "/.well-known/jwks.json") {
      this.keyFetches += 1;
      send(response, 200, await this.jwks());
      return;
    }
    const wanted = /^\/v5\/vms\/([a-z0-9]{20})\/ssh-ticket$/.exec(request.url ?? "")?.[1];
    if (wanted !== undefined) {
      await this.#mintForClient(request, response, wanted);
      return;
    }
    const body: unknown = JSON.parse(await text(request));
    if (request.url === "/service/v1/enrolments") {
      sendResult(response, this.desk.enrol(request.headers.authorization, body));
      return;
    }
    if (!(await this.desk.admits(request.headers.authorization))) {
      send(response, 401, { kind: "service-key-refused", message: "This service is not known here." });
      return;
    }
    if (request.url === "/service/v1/ssh-tickets") {
      const asked = sshTicketRequest.parse(body);
      this.ticketRequests.push(asked);
      await this.beforeTicket;
      if (this.broken !== null) {
        response.writeHead(this.broken.status).end(this.broken.body);
        return;
      }
      sendResult(response, await this.#decide(asked));
      return;
    }
    const asked = sessionCheckRequest.parse(body);
    this.sessionChecks += 1;
    const row = [...this.#tokens.values()].find((known) => known.credentialId === asked.credentialId);
    if (row === undefined || row.revoked) sendResult(response, refusal("credential-invalid", "The token was revoked."));
    else sendResult(response, success({ epoch: row.epoch }));
  }

  /** `POST /v5/vms/{id}/ssh-ticket` with an access token. */
  async #mintForClient(request: IncomingMessage, response: ServerResponse, vmId: string): Promise<void> {
    const row = this.#tokens.get((request.headers.authorization ?? "").replace(/^Bearer /, ""));
    const body = clientTicketBody.parse(JSON.parse(await text(request)));
    const key = body.publicKey == null ? undefined : parseSshPublicKey(body.publicKey);
    if (row === undefined || row.revoked || row.vmId !== vmId || key === null) {
      send(response, 401, { code: "INVALID_API_KEY", message: "The credential is not valid." });
      return;
    }
    const user = body.linuxUser ?? "root";
    const ticket = await this.ticket(row, { user, ...(key === undefined ? {} : { cnf: { ssh: key.fingerprint } }) });
    const [host, port] = this.sshAddress.split(":");
    send(response, 200, { ticket, user: `${vmId}+${user}`, host, port: Number(port), expiresAt: "", command: "" });
  }

  async #decide(asked: SshTicketRequest): Promise<Result<{ ticket: string }>> {
    const row = this.#tokens.get(asked.token);
    if (row === undefined || row.revoked) return refusal("credential-invalid", "The access token was not accepted.");
    if (row.vmId !== asked.vmId) return refusal("vm-not-found", "There is no such VM, or it is not granted to you.");
    const user = asked.linuxUser ?? "root";
    if (row.allowedUsers !== null && !row.allowedUsers.includes(user)) {
      return refusal("linux-user-forbidden", `You may log in as ${row.allowedUsers.join(", ")} only.`);
    }
    return success({ ticket: await this.ticket(row, { user, azp: `forwarder:${asked.forwarderId}` }) });
  }
}

function refusal(kind: FailureKind, message: string): { ok: false; failure: Failure } {
  return failure(kind, message);
}

function sendResult(response: ServerResponse, result: Result<object>): void {
  if (result.ok) send(response, 200, result.value);
  else send(response, FAILURES[result.failure.kind].v5[1], result.failure);
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

async function text(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const chunk of request) body += String(chunk);
  return body;
}
