import { failure, type Result, success } from "../protocol/failures.ts";
import { type FeedUpstream, feedUpstream } from "../protocol/feed.ts";
import type { Floor } from "../protocol/floors.ts";
import { newRowId } from "../protocol/ids.ts";
import { CREDENTIAL_INVALID_MESSAGE } from "../protocol/messages.ts";
import type { EnrolmentAnswer, EnrolmentRequest } from "../protocol/service-api.ts";
import { claimedService, isServiceId } from "../protocol/service-assertion.ts";
import { mintCredential } from "../protocol/tokens.ts";
import {
  FEED_REGION_HEADER,
  FEED_SERVICE_HEADER,
  type HostRow,
  type Page,
  type PlaceWish,
  type RegionApi,
  type SshSessionRow,
} from "./contract.ts";
import type { Env } from "./env.ts";
import { FeedSockets, type Hello } from "./feed-sockets.ts";
import { RegionFloors } from "./region-floors.ts";
import { RegionHosts } from "./region-hosts.ts";
import { REGION_SCHEMA } from "./region-schema.ts";
import { RegionServices, standingOf } from "./region-services.ts";
import type { JoinTokenWish, ServiceRow, ServiceStanding } from "./service-contract.ts";
import { SshSessions } from "./ssh-sessions.ts";
import { StoredObject } from "./stored-object.ts";

/** Longest frame that a verifier may send, in characters; every real one is far shorter. */
const MAX_FRAME_LENGTH = 16_384;

/** A region: its services and what they enrol with, its hosts and where VMs are placed, and the feed of floors to every verifier in it. */
export class Region extends StoredObject implements RegionApi {
  readonly #sockets: FeedSockets;
  readonly #sessions: SshSessions;
  readonly #hosts: RegionHosts;
  readonly #services: RegionServices;
  readonly #floors: RegionFloors;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env, REGION_SCHEMA);
    this.#sockets = new FeedSockets(ctx);
    this.#floors = new RegionFloors(ctx.storage);
    this.#sockets.answerHeartbeats(this.schema.exists ? this.#floors.sent() : 0);
    this.#sessions = new SshSessions(this.sql);
    this.#hosts = new RegionHosts(ctx.storage, this.#sockets, () => this.clock());
    this.#services = new RegionServices(ctx.storage, (length) => this.randomBytes(length));
  }

  async createServiceKey(region: string, name: string | null): Promise<Result<{ keyId: string; serviceKey: string }>> {
    const minted = await mintCredential("service-key", this.#objectName(), await this.macKeys(), this.randomBytes);
    const keyId = newRowId(this.randomBytes);
    this.#prepareAs(region);
    this.#services.addServiceKey(keyId, minted.secretHash, name, this.clock());
    return success({ keyId, serviceKey: minted.text });
  }

  async revokeServiceKey(keyId: string): Promise<Result<null>> {
    const enrolled = this.schema.exists ? this.#services.revokeServiceKey(keyId, this.clock()) : null;
    if (enrolled === null) return failure("token-not-found", "This service key does not exist.");
    this.#sockets.closeAllOf(enrolled);
    return success(null);
  }

  async createJoinToken(
    region: string,
    wish: JoinTokenWish,
  ): Promise<Result<{ tokenId: string; joinToken: string; expiresAt: number }>> {
    const minted = await mintCredential("service-key", this.#objectName(), await this.macKeys(), this.randomBytes);
    const tokenId = newRowId(this.randomBytes);
    const now = this.clock();
    this.#prepareAs(region);
    this.#services.addJoinToken(tokenId, minted.secretHash, wish, now, now + wish.lifeMs);
    return success({ tokenId, joinToken: minted.text, expiresAt: now + wish.lifeMs });
  }

  async revokeJoinToken(tokenId: string): Promise<Result<null>> {
    const revoked = this.schema.exists && this.#services.revokeJoinToken(tokenId);
    return revoked ? success(null) : failure("token-not-found", "This join token does not exist, or it was used.");
  }

  async enrol(secretHash: string, request: EnrolmentRequest): Promise<Result<EnrolmentAnswer>> {
    if (!this.schema.exists) return failure("credential-invalid", CREDENTIAL_INVALID_MESSAGE);
    const enrolled = this.#services.enrol(this.#objectName(), secretHash, request, this.clock());
    if (!enrolled.ok) return enrolled;
    const { serviceId, replaced } = enrolled.value;
    if (replaced !== null) this.#sockets.closeAllOf([replaced]);
    return success({ serviceId, region: this.#name(), issuer: this.env.ISSUER });
  }

  async listServices(page: Page): Promise<Result<{ services: readonly ServiceRow[]; total: number }>> {
    if (!this.schema.exists) return success({ services: [], total: 0 });
    return success({
      services: this.#services.list(this.#objectName(), this.bounds(page)),
      total: this.#services.count(),
    });
  }

  async revokeService(serviceId: string): Promise<Result<null>> {
    const rowId = this.#rowIdOf(serviceId);
    if (rowId === null || !this.#services.revoke(rowId, this.clock())) {
      return failure("token-not-found", "This service does not exist.");
    }
    this.#sockets.closeAllOf([rowId]);
    return success(null);
  }

  async checkService(assertion: string): Promise<Result<ServiceStanding>> {
    const serviceId = claimedService(assertion);
    const rowId = serviceId === null ? null : this.#rowIdOf(serviceId);
    if (serviceId === null || rowId === null) return failure("credential-invalid", CREDENTIAL_INVALID_MESSAGE);
    const row = await this.#services.check(serviceId, rowId, assertion, this.env.ISSUER, this.clock());
    if (row === null) return failure("credential-invalid", CREDENTIAL_INVALID_MESSAGE);
    return success(standingOf(serviceId, this.#name(), row));
  }

  async place(vmId: string, wish: Partial<PlaceWish> = {}): Promise<Result<{ hostId: string; hostUrl: string }>> {
    if (!this.schema.exists) return failure("no-capacity", "No host has joined this region.");
    return this.#hosts.place(vmId, wish, this.settings);
  }

  async release(vmId: string): Promise<void> {
    if (this.schema.exists) this.#hosts.release(vmId);
  }

  async hostUrl(hostId: string): Promise<Result<string>> {
    if (!this.schema.exists) return failure("host-unavailable", "No host has joined this region.");
    return this.#hosts.url(hostId, this.settings);
  }

  async listHosts(): Promise<Result<readonly HostRow[]>> {
    return success(this.schema.exists ? this.#hosts.list(this.settings) : []);
  }

  async drainHost(hostId: string, draining: boolean): Promise<Result<null>> {
    if (!this.schema.exists || !this.#hosts.setDraining(hostId, draining)) {
      return failure("route-not-found", "This region has no such host.");
    }
    this.#sockets.tellHost(hostId, { type: "drain", draining });
    return success(null);
  }

  async deliverFloors(floors: readonly Floor[]): Promise<void> {
    this.schema.prepare();
    const now = this.clock();
    const kept = this.#floors.keep(floors, now, now - this.settings.FLOOR_KEEP_MS);
    this.#sockets.answerHeartbeats(this.#floors.sent());
    for (const socket of this.#sockets.members()) {
      for (const { floor, number } of kept) this.#sockets.send(socket, { type: "floor", floor, number });
    }
  }

  async voidKeys(kids: readonly string[]): Promise<void> {
    this.schema.prepare();
    const now = this.clock();
    const number = this.ctx.storage.transactionSync(() => {
      this.sql.exec("DELETE FROM voided_keys WHERE received_at < ?", now - this.settings.KEY_VOID_KEEP_MS);
      for (const kid of kids) this.sql.exec("INSERT OR IGNORE INTO voided_keys (kid, received_at) VALUES (?, ?)", kid, now);
      return this.#floors.count();
    });
    this.#sockets.answerHeartbeats(number);
    for (const socket of this.#sockets.members()) this.#sockets.send(socket, { type: "keys-voided", kids: [...kids], number });
  }

  async listSshSessions(accountId: string): Promise<Result<readonly SshSessionRow[]>> {
    if (!this.schema.exists) return success([]);
    const connected = new Set(this.#sockets.forwarders().keys());
    return success(this.#sessions.list(accountId, connected, this.settings.MAX_PAGE_SIZE));
  }

  async closeSshSession(accountId: string, id: string): Promise<Result<null>> {
    const holder = this.schema.exists ? this.#sessions.holder(accountId, id) : null;
    const socket = holder === null ? undefined : this.#sockets.forwarders().get(holder);
    if (socket === undefined) return failure("session-not-found", "This SSH session does not exist, or it has ended.");
    this.#sockets.send(socket, { type: "close-ssh-session", id });
    return success(null);
  }

  /** Takes the upgrade of a verifier's feed socket; the Worker has checked the assertion and names the service in a header. */
  override async fetch(request: Request): Promise<Response> {
    const service = this.#rowIdOf(request.headers.get(FEED_SERVICE_HEADER) ?? "");
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
      return new Response("expected a WebSocket upgrade", { status: 426 });
    }
    // The service may have been revoked since the Worker looked.
    const isLive = service !== null && this.#services.withId(service) !== null;
    if (!isLive || request.headers.get(FEED_REGION_HEADER) !== this.#name()) {
      return new Response("forbidden", { status: 403 });
    }
    const { 0: client, 1: server } = new WebSocketPair();
    this.#sockets.accept(server, service);
    return new Response(null, { status: 101, webSocket: client });
  }

  override async webSocketMessage(socket: WebSocket, frame: string | ArrayBuffer): Promise<void> {
    const message = readFrame(frame);
    const { member } = this.#sockets.read(socket);
    if (message === null) {
      this.#sockets.refuse(socket, "This frame is not of the feed protocol.");
    } else if (message.type === "hello" && member === null) {
      this.#welcome(socket, message);
    } else if (message.type === "host-load" && member?.role === "host") {
      this.#hosts.noteLoad(member.id, message);
    } else if (message.type === "ssh-sessions" && member?.role === "forwarder") {
      this.#sessions.opened(member.id, message.opened);
      this.#sessions.closed(member.id, message.closed);
    } else {
      this.#sockets.refuse(socket, "This frame is out of place: one hello comes first, then reports of the member's own kind.");
    }
  }

  override async webSocketClose(socket: WebSocket): Promise<void> {
    this.#noteGone(socket);
  }

  override async webSocketError(socket: WebSocket): Promise<void> {
    this.#noteGone(socket);
  }

  #welcome(socket: WebSocket, hello: Hello): void {
    const now = this.clock();
    const { service } = this.#sockets.read(socket);
    if (!this.#maySpeakAs(service, hello)) {
      this.#sockets.refuse(socket, "This service is enrolled as another one: it can only speak for itself.");
      return;
    }
    const draining = hello.role === "host" && this.#hosts.enter(hello).draining;
    this.#sockets.write(socket, { service, member: { role: hello.role, id: hello.id, joinedAt: now } });
    this.#sockets.replaceOlder(socket);
    if (hello.role === "forwarder") this.#sessions.forget(hello.id, new Set(this.#sockets.forwarders().keys()));
    // No await since the floors were read: whatever is delivered from now on finds this socket among the members.
    const floors = this.#floors.since(now - this.settings.FLOOR_KEEP_MS);
    const number = this.#floors.sent();
    const voidedKeys = this.sql
      .exec<{ kid: string }>("SELECT kid FROM voided_keys WHERE received_at >= ?", now - this.settings.KEY_VOID_KEEP_MS)
      .toArray()
      .map((row) => row.kid);
    this.#sockets.send(socket, {
      type: "welcome",
      region: this.#name(),
      issuer: this.env.ISSUER,
      floors,
      number,
      voidedKeys,
      now,
      ...(draining ? { draining } : {}),
    });
  }

  #noteGone(socket: WebSocket): void {
    const { member } = this.#sockets.read(socket);
    // One that was replaced is not gone.
    if (member?.role === "host" && !this.#sockets.hosts().has(member.id)) this.#hosts.noteGone(member.id);
  }

  /** A host is the one it was enrolled as; a forwarder has an id for each of its processes, which no other service has now. */
  #maySpeakAs(service: string, { role, id }: Hello): boolean {
    const row = this.#services.withId(service);
    if (row?.kind !== role) return false;
    if (row.host_id !== null) return row.host_id === id;
    const holder = this.#sockets.forwarders().get(id);
    return holder === undefined || this.#sockets.read(holder).service === service;
  }

  /** Makes the tables, and keeps the region's name, which only those who call by it know. */
  #prepareAs(region: string): void {
    this.schema.prepare();
    this.sql.exec("INSERT OR IGNORE INTO region (name) VALUES (?)", region);
  }

  /** The row id in a service id of this region; null for any other text. */
  #rowIdOf(serviceId: string): string | null {
    if (!this.schema.exists || !isServiceId(serviceId)) return null;
    const [object, rowId] = serviceId.split("-");
    return object === this.#objectName() && rowId !== undefined ? rowId : null;
  }

  #objectName(): string {
    const { name } = this.ctx.id;
    if (name === undefined) throw new Error("a region object must be addressed by name");
    return name;
  }

  #name(): string {
    return this.sql.exec<{ name: string }>("SELECT name FROM region").one().name;
  }
}

function readFrame(frame: string | ArrayBuffer): FeedUpstream | null {
  if (typeof frame !== "string" || frame.length > MAX_FRAME_LENGTH) return null;
  try {
    return feedUpstream.parse(JSON.parse(frame));
  } catch {
    return null;
  }
}
