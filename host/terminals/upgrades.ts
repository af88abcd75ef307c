import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { ACTED_AS_HEADER, TRACE_HEADER } from "../../protocol/headers.ts";
import { type TerminalDialect, terminalAttach, terminalOpen } from "../../protocol/host-api.ts";
import { IMAGE_USER } from "../../protocol/linux-user.ts";
import type { LiveSessions } from "../../service/live-sessions.ts";
import type { Log } from "../../service/log.ts";
import { refuseOnSocket } from "../answers.ts";
import type { Admission, Gate } from "../gate.ts";
import type { ManagedMachine } from "../machine.ts";
import type { Machines } from "../machines.ts";
import { checked } from "../routing.ts";
import { traceOf } from "../trace.ts";
import type { TerminalSession } from "./session.ts";
import type { TerminalSize } from "./shell.ts";
import { type SocketLimits, TerminalSocket } from "./socket.ts";
import type { Terminals } from "./terminals.ts";

export interface UpgradeParts {
  readonly gate: Gate;
  readonly machines: Machines;
  readonly terminals: Terminals;
  /** Null until the host has joined its region: then the gate lets nobody in either. */
  readonly live: () => LiveSessions | null;
  readonly log: Log;
  readonly limits: SocketLimits;
  /** Largest frame that a client may send, in bytes. */
  readonly frameBytes: number;
}

interface Opened {
  readonly admission: Admission;
  readonly machine: ManagedMachine;
  readonly session: TerminalSession;
  readonly created: boolean;
  readonly dialect: TerminalDialect;
  readonly size: TerminalSize | null;
}

/** `/vms/:vm/terminals/open` and `/vms/:vm/terminals/:id/attach`. */
const ROUTE = /^\/vms\/([^/]+)\/terminals\/(?:open|([^/]+)\/attach)$/;

/**
 * Terminals' WebSockets (RFC 6455). Whatever keeps one from opening is a plain HTTP answer. A socket is tagged with its
 * ticket: once its caller's access is gone it is closed, and the session stays for others.
 */
export class TerminalUpgrades {
  readonly #parts: UpgradeParts;
  readonly #server: WebSocketServer;
  readonly #open = new Set<TerminalSocket>();
  readonly #actedAs = new WeakMap<IncomingMessage, string>();

  constructor(parts: UpgradeParts) {
    this.#parts = parts;
    const maxPayload = parts.frameBytes;
    this.#server = new WebSocketServer({ noServer: true, clientTracking: false, perMessageDeflate: false, maxPayload });
    this.#server.on("headers", (headers, request) => headers.push(`${ACTED_AS_HEADER}: ${this.#actedAs.get(request) ?? ""}`));
  }

  /** Handles Node's `upgrade` event. `head`: bytes that came right behind the request. */
  async upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const trace = traceOf(request.headers[TRACE_HEADER]);
    const log = this.#parts.log.child({ trace, op: "terminal" });
    const onError = (error: Error) => log.info("terminal peer broke", { error: error.message });
    socket.on("error", onError);
    socket.setTimeout(0);
    const stopReading = noticeEnd(socket, this.#parts.frameBytes);
    try {
      const opened = await this.#prepare(request, log);
      const early = stopReading();
      if (!opened.ok) refuseOnSocket(socket, opened.failure, trace);
      else if (socket.destroyed) await this.#abandon(opened.value);
      else {
        socket.off("error", onError);
        this.#actedAs.set(request, userOf(opened.value.admission, opened.value.session));
        this.#server.handleUpgrade(request, socket, Buffer.concat([head, early]), (accepted) =>
          this.#begin(accepted, opened.value, log),
        );
      }
    } catch (error) {
      log.error("terminal failed", { error: String(error) });
      refuseOnSocket(socket, failure("internal", "The host failed. The trace id names the failure in its log.").failure, trace);
    }
  }

  /** Closes every socket. */
  close(): void {
    for (const socket of this.#open) socket.goAway();
  }

  async #prepare(request: IncomingMessage, log: Log): Promise<Result<Opened>> {
    const { gate, machines, terminals } = this.#parts;
    const url = URL.parse(request.url ?? "", "http://host");
    const [, vmId = "", id] = ROUTE.exec(url?.pathname ?? "") ?? [];
    if (url === null || vmId === "") return failure("route-not-found", "The host has no such WebSocket.");
    const admission = await gate.admit(request.headers.authorization, { vmId, operation: "terminal" }, log);
    if (!admission.ok) return admission;
    const machine = machines.find(vmId);
    if (!machine.ok) return machine;
    const { linuxUser } = admission.value;
    const context = { admission: admission.value, machine: machine.value };
    const query = Object.fromEntries(url.searchParams);
    if (id === undefined) {
      const wish = checked(terminalOpen, query, "query");
      if (!wish.ok) return wish;
      const opened = await terminals.open(machine.value, linuxUser, wish.value);
      if (!opened.ok) return opened;
      const { dialect, cols, rows } = wish.value;
      return success({ ...context, ...opened.value, dialect, size: { cols, rows } });
    }
    const wish = checked(terminalAttach, query, "query");
    if (!wish.ok) return wish;
    const { dialect, cols, rows } = wish.value;
    const attached = await terminals.attach(machine.value, linuxUser, id, dialect);
    if (!attached.ok) return attached;
    const size = cols === undefined || rows === undefined ? null : { cols, rows };
    return success({ ...context, ...attached.value, dialect, size });
  }

  /** The caller went away while its session was made: nobody else knows of it. */
  async #abandon({ machine, session, created }: Opened): Promise<void> {
    if (created) await this.#parts.terminals.discard(machine, session);
  }

  #begin(accepted: WebSocket, opened: Opened, log: Log): void {
    const { admission, machine, session, created, dialect, size } = opened;
    const { claims } = admission;
    const { sub, cred } = claims;
    const user = userOf(admission, session);
    const live = this.#parts.live();
    if (live === null) {
      accepted.terminate();
      return;
    }
    log.info("terminal attached", { vm: machine.vmId, user, sub, cred, session: session.spec.number, created });
    const socket = new TerminalSocket(accepted, session, dialect, size, this.#parts.limits, () => {
      forget();
      this.#open.delete(socket);
      log.info("terminal detached", { vm: machine.vmId, session: session.spec.number });
    });
    this.#open.add(socket);
    const forget = live.add({ claims: { ...claims, user, op: "terminal" }, end: (text) => socket.refuse(text) });
    socket.begin(created);
  }
}

/** As whom a socket acts, which the grant must go on to allow: the session's own user where the ticket left it to the guest. */
function userOf({ linuxUser }: Admission, { spec }: TerminalSession): string {
  return linuxUser === IMAGE_USER ? spec.linuxUser : linuxUser;
}

/**
 * Reads a socket while its answer is prepared, or nobody would notice that the peer has left. The returned function ends
 * that and answers what was read, which a client that waits for its answer does not send; past `limit` bytes it is cut off.
 */
function noticeEnd(socket: Socket, limit: number): () => Buffer {
  let early = Buffer.alloc(0);
  const onData = (data: Buffer) => {
    early = Buffer.concat([early, data]);
    if (early.length > limit) socket.destroy();
  };
  const onEnd = () => socket.destroy();
  socket.on("data", onData);
  socket.on("end", onEnd);
  return () => {
    socket.off("data", onData);
    socket.off("end", onEnd);
    return early;
  };
}
