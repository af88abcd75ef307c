import { FEED_PING, type FeedDownstream, type FeedUpstream, feedPong } from "../protocol/feed.ts";

export type Hello = Extract<FeedUpstream, { type: "hello" }>;

/** What a socket is, kept in its attachment so that it survives hibernation. `member` is null until the hello. */
export interface SocketState {
  /** Row id of the service that dialled. */
  readonly service: string;
  readonly member: { readonly role: Hello["role"]; readonly id: string; readonly joinedAt: number } | null;
}

/** Close codes of the feed (RFC 6455 section 7.4.2: 4000–4999 are the application's). */
export const CLOSE_REFUSED = 4003;
export const CLOSE_REPLACED = 4009;

/** The open sockets of a region. Holds nothing itself: the runtime keeps the sockets, and each one says what it is. */
export class FeedSockets {
  readonly #ctx: DurableObjectState;

  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx;
  }

  /**
   * Heartbeats are answered by the runtime, so an idle region sleeps however many verifiers listen. The answer says how many
   * floors were sent; call this anew whenever there are more.
   */
  answerHeartbeats(floorsSent: number): void {
    this.#ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair(FEED_PING, feedPong(floorsSent)));
  }

  accept(socket: WebSocket, service: string): void {
    this.#ctx.acceptWebSocket(socket);
    this.write(socket, { service, member: null });
  }

  read(socket: WebSocket): SocketState {
    return socket.deserializeAttachment() as SocketState;
  }

  write(socket: WebSocket, state: SocketState): void {
    socket.serializeAttachment(state);
  }

  /** Sockets that have said hello. */
  members(): WebSocket[] {
    return this.#open().filter((socket) => this.read(socket).member !== null);
  }

  /** When each connected host was last heard, by host id, in milliseconds since 1970 UTC. */
  hosts(): Map<string, number> {
    const heard = new Map<string, number>();
    for (const socket of this.members()) {
      const { member } = this.read(socket);
      if (member?.role !== "host") continue;
      const heartbeat = this.#ctx.getWebSocketAutoResponseTimestamp(socket)?.getTime() ?? 0;
      heard.set(member.id, Math.max(member.joinedAt, heartbeat, heard.get(member.id) ?? 0));
    }
    return heard;
  }

  /** The socket of each connected forwarder, by its id. */
  forwarders(): Map<string, WebSocket> {
    const sockets = new Map<string, WebSocket>();
    for (const socket of this.members()) {
      const { member } = this.read(socket);
      if (member?.role === "forwarder") sockets.set(member.id, socket);
    }
    return sockets;
  }

  /** A member that dials again replaces its older socket, which may be dead without knowing. */
  replaceOlder(newest: WebSocket): void {
    const { member } = this.read(newest);
    for (const socket of this.members()) {
      const other = this.read(socket).member;
      if (socket !== newest && other?.role === member?.role && other?.id === member?.id) {
        socket.close(CLOSE_REPLACED, "replaced by a newer connection");
      }
    }
  }

  /** Tells a connected host something; one that is away learns it with its welcome. */
  tellHost(hostId: string, message: FeedDownstream): void {
    for (const socket of this.members()) {
      const { member } = this.read(socket);
      if (member?.role === "host" && member.id === hostId) this.send(socket, message);
    }
  }

  closeAllOf(services: readonly string[]): void {
    for (const socket of this.#open()) {
      if (services.includes(this.read(socket).service)) this.refuse(socket, "This service was revoked.");
    }
  }

  refuse(socket: WebSocket, message: string): void {
    this.send(socket, { type: "refused", message });
    socket.close(CLOSE_REFUSED, "refused");
  }

  send(socket: WebSocket, message: FeedDownstream): void {
    try {
      socket.send(JSON.stringify(message));
    } catch {
      // The peer went away; its close event follows, and what it missed comes with its next welcome.
    }
  }

  #open(): WebSocket[] {
    return this.#ctx.getWebSockets().filter((socket) => socket.readyState === WebSocket.OPEN);
  }
}
