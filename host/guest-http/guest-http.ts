import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "../../protocol/bytes.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { TRACE_HEADER } from "../../protocol/headers.ts";
import { PUBLIC_CREDENTIAL } from "../../protocol/ticket.ts";
import type { LiveSessions } from "../../service/live-sessions.ts";
import type { Log } from "../../service/log.ts";
import { refuseOnSocket } from "../answers.ts";
import type { Gate } from "../gate.ts";
import type { IdleWatch } from "../idle.ts";
import type { ManagedMachine, Running } from "../machine.ts";
import type { Machines } from "../machines.ts";
import { splice } from "../splice.ts";
import { traceOf } from "../trace.ts";
import { TunnelPlaces } from "../tunnel-places.ts";
import { type AskLimits, askGuest, type GuestOutcome } from "./ask.ts";
import { GuestConnections } from "./connections.ts";
import { hasBody, SWITCHING, toGuest } from "./headers.ts";
import { bytesOf, refuse, relayAnswer, relayOnSocket, switchingHead } from "./relay.ts";

export interface GuestHttpLimits extends AskLimits {
  /** Requests and WebSockets into one VM at once. */
  readonly perVm: number;
  /** How long after a machine came up a port may refuse, while its server starts, in milliseconds. */
  readonly bootMs: number;
  /** Between two tries meanwhile, in milliseconds. */
  readonly pollMs: number;
  /** How long an idle connection to a guest is kept, in milliseconds. */
  readonly keepMs: number;
  /** TCP keepalive of WebSockets, in milliseconds. */
  readonly keepaliveMs: number;
}

export interface GuestHttpParts {
  readonly gate: Gate;
  readonly machines: Machines;
  readonly idle: IdleWatch;
  /** Null until the host has joined its region: then the gate lets nobody in either. */
  readonly live: () => LiveSessions | null;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: GuestHttpLimits;
}

/** A request that was let in. */
interface Visit {
  readonly machine: ManagedMachine;
  readonly port: number;
  readonly path: string;
  readonly trace: string;
  readonly log: Log;
  /** Aborts when the visitor is gone, its access is, or the host closes. */
  readonly end: AbortController;
  /** Gives back what the visit holds; more than once changes nothing. */
  readonly leave: () => void;
}

/** What a guest said, and in which run of its machine. */
type Answered = Extract<GuestOutcome, { kind: "answer" | "switched" }> & { readonly running: Running };

const ROUTE = /^\/vms\/([^/?]+)\/http\/(\d{1,5})(\/.*)$/;

/** Methods that may be asked again, and have no body as a rule (RFC 9110 section 9.2.2). */
const REPEATABLE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/**
 * HTTP and WebSockets from the VM's own name to a port of the guest: any method of `/vms/:vm/http/:port/…` with a ticket for `http`.
 * Bytes stream both ways. The guest sees the visitor's request and nothing of ours; what it answers is marked as its own.
 */
export class GuestHttp {
  readonly #parts: GuestHttpParts;
  readonly #places: TunnelPlaces;
  readonly #connections: GuestConnections;
  readonly #open = new Set<AbortController>();

  constructor(parts: GuestHttpParts) {
    this.#parts = parts;
    this.#places = new TunnelPlaces(parts.limits.perVm);
    this.#connections = new GuestConnections(parts.limits.keepMs);
  }

  /** Whether a request is this part's to serve. */
  owns(request: IncomingMessage): boolean {
    return ROUTE.test(request.url ?? "");
  }

  /** How many exchanges and WebSockets there are now. */
  get open(): number {
    return this.#open.size;
  }

  /** Serves a request. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const before = performance.now();
    const trace = traceOf(request.headers[TRACE_HEADER]);
    const end = new AbortController();
    response.on("close", () => end.abort());
    const answered = await this.#serve(request, trace, end);
    if (!answered.ok) {
      refuse(request, response, answered.failure, trace);
      return;
    }
    const { visit, outcome } = answered.value;
    const { statusCode: status } = outcome.answer;
    relayAnswer(outcome.answer, response, () => {
      visit.leave();
      visit.log.info("visit", { method: request.method, port: visit.port, status, ms: Math.round(performance.now() - before) });
    });
  }

  /** Handles Node's `upgrade` event. `head`: bytes that came right behind the request. */
  async upgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const trace = traceOf(request.headers[TRACE_HEADER]);
    const end = new AbortController();
    socket.on("error", () => end.abort());
    socket.on("close", () => end.abort());
    socket.setTimeout(0);
    const answered = await this.#serve(request, trace, end);
    if (!answered.ok) {
      refuseOnSocket(socket, answered.failure, trace);
      return;
    }
    const { visit, outcome } = answered.value;
    if (outcome.kind === "answer") {
      relayOnSocket(request, outcome.answer, socket, visit.leave);
      return;
    }
    visit.log.info("socket opened", { port: visit.port });
    socket.write(switchingHead(outcome.answer));
    if (outcome.head.length > 0) socket.write(outcome.head);
    if (head.length > 0) outcome.socket.write(head);
    splice(socket, outcome.socket, { down: end.signal, keepaliveMs: this.#parts.limits.keepaliveMs }, () => {
      visit.leave();
      visit.log.info("socket closed", { port: visit.port });
    });
  }

  /** Ends every exchange. */
  close(): void {
    for (const end of this.#open) end.abort();
  }

  async #serve(
    request: IncomingMessage,
    trace: string,
    end: AbortController,
  ): Promise<Result<{ readonly visit: Visit; readonly outcome: Answered }>> {
    const log = this.#parts.log.child({ trace, op: "http" });
    const visit = await this.#enter(request, trace, end, log);
    if (!visit.ok) return visit;
    let outcome: Result<Answered> | null = null;
    try {
      outcome = await this.#ask(request, visit.value);
    } catch (error) {
      log.error("visit failed", { error: String(error) });
      outcome = failure("internal", "The host failed. The trace id names the failure in its log.");
    } finally {
      if (outcome?.ok !== true) visit.value.leave();
    }
    return outcome.ok ? success({ visit: visit.value, outcome: outcome.value }) : outcome;
  }

  /** Lets a request in, before anything is woken. */
  async #enter(request: IncomingMessage, trace: string, end: AbortController, log: Log): Promise<Result<Visit>> {
    const { gate, machines, live } = this.#parts;
    const [, vmId = "", port, path = "/"] = ROUTE.exec(request.url ?? "") ?? [];
    const admission = await gate.admit(request.headers.authorization, { vmId, operation: "http" }, log);
    if (!admission.ok) return admission;
    const machine = machines.find(vmId);
    if (!machine.ok) return machine;
    const free = this.#places.take(vmId);
    if (free === null) return failure("vm-busy", "Too many requests to this VM are under way.");
    const { claims } = admission.value;
    const forget =
      claims.cred === PUBLIC_CREDENTIAL
        ? null
        : live()?.add({ claims: { ...claims, user: "root", op: "http" }, end: () => end.abort() });
    this.#open.add(end);
    const leave = () => {
      free();
      forget?.();
      this.#open.delete(end);
    };
    const { sub, cred } = claims;
    return success({
      machine: machine.value,
      port: Number(port),
      path,
      trace,
      log: log.child({ vm: vmId, sub, cred }),
      end,
      leave,
    });
  }

  /** Wakes the VM and asks the guest; its use ends with the head of the answer, from where on bytes are counted. */
  async #ask(request: IncomingMessage, visit: Visit): Promise<Result<Answered>> {
    const { idle } = this.#parts;
    const rest = idle.begin(visit.machine.vmId);
    try {
      const outcome = await this.#reach(request, visit);
      if (!outcome.ok) return outcome;
      const { kind, answer, socket, running } = outcome.value;
      const unmeter = idle.meter(visit.machine.vmId, () => bytesOf(socket));
      const cut = () => visit.end.abort();
      running.down.addEventListener("abort", cut, { once: true });
      if (running.down.aborted) cut();
      // An exchange is over when its answer is, a WebSocket when its socket is.
      (kind === "answer" ? answer : socket).once("close", () => {
        unmeter();
        running.down.removeEventListener("abort", cut);
      });
      return outcome;
    } finally {
      rest();
    }
  }

  async #reach(request: IncomingMessage, visit: Visit): Promise<Result<Answered>> {
    const { clock, limits } = this.#parts;
    let looked = false;
    for (;;) {
      const running = await visit.machine.wake();
      if (!running.ok) return running;
      const outcome = await askGuest(this.#question(request, visit, running.value), limits);
      switch (outcome.kind) {
        case "answer":
        case "switched":
          return success({ ...outcome, running: running.value });
        case "timed-out":
          return failure("guest-timed-out", `What listens on port ${visit.port} of the VM did not answer in time.`);
        case "broken":
          return failure("guest-unreachable", `What listens on port ${visit.port} of the VM broke off before it answered.`);
        case "unreadable":
          return failure("guest-unreachable", `What listens on port ${visit.port} of the VM does not answer as HTTP does.`);
        case "stale":
          // Kept connections are used for what may be asked twice only.
          continue;
        case "unreachable":
          if (visit.end.signal.aborted) return failure("guest-unreachable", "The visitor is gone.");
          // The machine may have died by itself, or be up before its servers are.
          if (!looked && !(await visit.machine.stillRuns())) looked = true;
          else if (clock() - running.value.since < limits.bootMs) await delay(limits.pollMs);
          else return failure("guest-unreachable", nobodyListens(visit.port));
      }
    }
  }

  #question(request: IncomingMessage, { port, path, trace, end }: Visit, running: Running) {
    const method = request.method ?? "GET";
    const isUpgrade = request.headers.upgrade !== undefined;
    const headers = [...toGuest(request, trace), ...(isUpgrade ? SWITCHING : [])];
    const body = hasBody(request) ? request : null;
    const mayKeep = body === null && !isUpgrade && REPEATABLE.has(method);
    const agent = mayKeep ? this.#connections.of(running) : (false as const);
    return { address: running.ssh.host, port, method, path, headers, body, agent, end: end.signal };
  }
}

function nobodyListens(port: number): string {
  return `Nothing listens on port ${port} of the VM. A server there must listen on all addresses (0.0.0.0), not on 127.0.0.1 alone.`;
}
