import type { IncomingMessage } from "node:http";
import { connect, type Socket } from "node:net";
import type { RandomBytes } from "../protocol/bytes.ts";
import { failure, type Result, success } from "../protocol/failures.ts";
import { HOST_KEY_HEADER, SSH_KEY_HEADER, TRACE_HEADER, TUNNEL_HEADER } from "../protocol/headers.ts";
import type { Log } from "../service/log.ts";
import { parseSshPublicKey } from "../service/ssh-keys.ts";
import type { Accounts } from "./accounts.ts";
import { refuseOnSocket } from "./answers.ts";
import type { Admission, Gate } from "./gate.ts";
import { SSHD_UNREACHABLE } from "./guest-login.ts";
import type { IdleWatch } from "./idle.ts";
import type { PublishedKeys } from "./keys.ts";
import type { ManagedMachine, Running } from "./machine.ts";
import type { Machines } from "./machines.ts";
import { traceOf } from "./trace.ts";
import { TunnelPlaces } from "./tunnel-places.ts";
import type { TunnelRegister } from "./tunnel-register.ts";
import { TunnelSplice } from "./tunnel-splice.ts";

export interface TunnelLimits {
  /** Tunnels into one VM at once. */
  readonly perVm: number;
  /** Longest wait for the guest's sshd to accept, in milliseconds. */
  readonly connectTimeoutMs: number;
  /** TCP keepalive of both legs, in milliseconds. */
  readonly keepaliveMs: number;
  /** Bytes that are held for a guest that sleeps. */
  readonly heldBytes: number;
  /** Longest wait for what is on its way to a guest that is about to sleep, in milliseconds. */
  readonly settleMs: number;
}

export interface TunnelParts {
  readonly gate: Gate;
  readonly machines: Machines;
  readonly accounts: Accounts;
  readonly keys: PublishedKeys;
  readonly idle: IdleWatch;
  readonly register: TunnelRegister;
  readonly randomBytes: RandomBytes;
  readonly log: Log;
  readonly limits: TunnelLimits;
}

interface Opened {
  readonly admission: Admission;
  readonly machine: ManagedMachine;
  readonly running: Running;
  readonly guest: Socket;
  /** Takes back what the tunnel was given: the guest's leave for its key, and its place. */
  readonly withdraw: () => void;
}

/**
 * SSH tunnels: `CONNECT <vm>:22` (RFC 9110 section 9.3.6). The ticket's Linux user and the forwarder's key are admitted by
 * the guest for a minute, then bytes flow both ways untouched. Whatever goes wrong before that is an HTTP answer.
 */
export class Tunnels {
  readonly #parts: TunnelParts;
  readonly #places: TunnelPlaces;
  readonly #sockets = new Set<Socket>();

  constructor(parts: TunnelParts) {
    this.#parts = parts;
    this.#places = new TunnelPlaces(parts.limits.perVm);
  }

  /** Handles Node's `connect` event. `head`: bytes that came right behind the request. */
  async handle(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const trace = traceOf(request.headers[TRACE_HEADER]);
    const log = this.#parts.log.child({ trace, op: "ssh" });
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", (error) => log.info("tunnel peer broke", { error: error.message }));
    socket.setTimeout(0);
    try {
      const opened = await this.#open(request, log);
      if (opened.ok) this.#start(opened.value, socket, head, trace, log);
      else refuseOnSocket(socket, opened.failure, trace);
    } catch (error) {
      log.error("tunnel failed", { error: String(error) });
      refuseOnSocket(socket, failure("internal", "The host failed. The trace id names the failure in its log.").failure, trace);
    }
  }

  /** Cuts every tunnel. */
  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async #open(request: IncomingMessage, log: Log): Promise<Result<Opened>> {
    const { gate, machines } = this.#parts;
    const vmId = /^([^:]*):22$/.exec(request.url ?? "")?.[1];
    if (vmId === undefined) return failure("bad-request", "A tunnel leads to <vm>:22 only.");
    const admission = await gate.admit(request.headers["proxy-authorization"], { vmId, operation: "ssh" }, log);
    if (!admission.ok) return admission;
    const { claims } = admission.value;
    const header = request.headers[SSH_KEY_HEADER];
    const key = typeof header === "string" ? parseSshPublicKey(header) : null;
    if (key === null) return failure("bad-request", `${SSH_KEY_HEADER} must be one ssh-ed25519 public key.`);
    if (claims.cnf !== undefined && claims.cnf.ssh !== key.fingerprint) {
      log.warn("ticket refused", { reason: "confirmation" });
      return failure("ticket-refused", "The ticket was refused.");
    }
    const machine = machines.find(vmId);
    if (!machine.ok) return machine;
    const leave = this.#places.take(vmId);
    if (leave === null) return failure("vm-busy", "Too many SSH connections to this VM are open.");
    let opened: Result<Opened> | null = null;
    try {
      opened = await this.#enter(admission.value, machine.value, key.line, leave);
      return opened;
    } finally {
      if (opened?.ok !== true) leave();
    }
  }

  async #enter(admission: Admission, machine: ManagedMachine, keyLine: string, leave: () => void): Promise<Result<Opened>> {
    const { accounts, keys } = this.#parts;
    const account = await accounts.requireLogin(machine, admission.linuxUser);
    if (!account.ok) return account;
    const reached = await this.#reach(machine);
    if (!reached.ok) return reached;
    const forget = keys.publish(machine.vmId, admission.linuxUser, keyLine);
    const withdraw = () => {
      forget();
      leave();
    };
    return success({ admission, machine, withdraw, ...reached.value });
  }

  async #reach(machine: ManagedMachine): Promise<Result<{ running: Running; guest: Socket }>> {
    // Twice: a machine that died by itself is noticed by the first try and woken by the second.
    for (let attempt = 1; ; attempt += 1) {
      const running = await machine.wake();
      if (!running.ok) return running;
      const guest = await dial(running.value, this.#parts.limits.connectTimeoutMs);
      if (guest !== null) return success({ running: running.value, guest });
      if (attempt === 2 || (await machine.stillRuns())) return SSHD_UNREACHABLE;
    }
  }

  #start({ admission, machine, running, guest, withdraw }: Opened, socket: Socket, head: Buffer, trace: string, log: Log): void {
    const { idle, register, limits, randomBytes } = this.#parts;
    const { sub, cred, cnf } = admission.claims;
    const { vmId } = machine;
    const id = Buffer.from(randomBytes(16)).toString("base64url");
    const closed = register.opened(id, vmId);
    const stopMetering = idle.meter(vmId, () => guest.bytesRead + guest.bytesWritten);
    log.info("tunnel opened", { vm: vmId, user: admission.linuxUser, sub, cred });
    const headers = [
      [HOST_KEY_HEADER, machine.hostKey],
      [TUNNEL_HEADER, id],
      [TRACE_HEADER, trace],
    ];
    socket.write(`HTTP/1.1 200 OK\r\n${headers.map((header) => `${header.join(": ")}\r\n`).join("")}\r\n`);
    if (head.length > 0) socket.unshift(head);
    new TunnelSplice(socket, guest, {
      life: running.life,
      ...limits,
      wake: () => {
        // A forwarder answers keepalives itself. Bytes that it cannot read, because the client's SSH ends in the guest, may be one.
        if (cnf === undefined) idle.note(vmId);
        else idle.glance(vmId);
        log.info("bytes came for a machine that sleeps", { vm: vmId });
        return machine.wake();
      },
      onCut: (why) => {
        log.info("tunnel is cut", { vm: vmId, why });
        register.cut(id, why);
      },
      onClientGone: withdraw,
      onClosed: () => {
        closed();
        stopMetering();
        log.info("tunnel closed", { vm: vmId });
      },
    });
  }
}

function dial(running: Running, timeoutMs: number): Promise<Socket | null> {
  return new Promise((resolve) => {
    const guest = connect({ ...running.ssh, allowHalfOpen: true, noDelay: true });
    const failed = () => {
      guest.destroy();
      resolve(null);
    };
    const timer = setTimeout(failed, timeoutMs);
    guest.once("error", failed);
    guest.once("connect", () => {
      clearTimeout(timer);
      guest.off("error", failed);
      resolve(guest);
    });
    guest.once("close", () => clearTimeout(timer));
  });
}
