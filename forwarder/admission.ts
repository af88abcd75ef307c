import type { Clock } from "../protocol/bytes.ts";
import { type Failure, failure, type Result, success } from "../protocol/failures.ts";
import type { Login } from "../protocol/login.ts";
import type { SshTicketRequest } from "../protocol/service-api.ts";
import { type TicketClaims, type TicketRefusal, ticketKeyId } from "../protocol/ticket.ts";
import type { TicketVerifier } from "../protocol/verifier.ts";
import { UNAVAILABLE } from "../service/edge-client.ts";
import type { Log } from "../service/log.ts";
import { Flights } from "./flights.ts";
import { KeptAdmissions, type KeptLimits, loginName } from "./kept-admissions.ts";
import type { TicketSource } from "./ticket-source.ts";

/** A login that may go on: what the ticket allows, and the ticket for the host. */
export interface Admission {
  readonly ticket: string;
  readonly claims: AdmittedClaims;
  /** Whether the ticket was minted for an earlier login: the VM may have gone or moved since. */
  readonly reused: boolean;
  /** Asks the edge for a fresh ticket when a verifier calls this one stale; null for a ticket that the client brought. */
  readonly renew: ((signal: AbortSignal) => Promise<Result<Admission>>) | null;
}

/** Claims of a ticket for SSH, which always names a Linux user. */
export type AdmittedClaims = TicketClaims & { readonly user: string; readonly op: "ssh" };

export interface AdmissionOptions {
  readonly source: TicketSource;
  readonly verifier: TicketVerifier;
  readonly forwarderId: string;
  readonly kept: KeptLimits;
  readonly clock: Clock;
  readonly log: Log;
}

/** Who is at the door; `address` is only for the edge's audit trail. */
export interface Caller {
  readonly login: Omit<Login, "token">;
  readonly address: string;
}

// A compact JWS: no token has a dot.
const TICKET_PATTERN = /^[\w-]+\.[\w-]+\.[\w-]+$/;

/**
 * Decides a login by the secret that was shown: a token is asked about at the edge, a ticket is verified offline. Every
 * ticket, the edge's own too, is verified before it is used.
 */
export class Admitter {
  readonly #options: AdmissionOptions;
  readonly #kept: KeptAdmissions;
  readonly #asking = new Flights<Result<Admission>>();

  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#kept = new KeptAdmissions(options.kept, options.clock);
  }

  admit(caller: Caller, secret: string, signal: AbortSignal): Promise<Result<Admission>> {
    return TICKET_PATTERN.test(secret) ? this.#byTicket(caller, secret) : this.#byToken(caller, secret, signal);
  }

  async #byTicket({ login }: Caller, ticket: string): Promise<Result<Admission>> {
    const checked = await this.#options.verifier.verify(ticket);
    if (!checked.ok) return this.#refuse(checked.reason, TICKET_MESSAGES[checked.reason] ?? OTHER_TICKET);
    const read = readClaims(checked.claims, login, "client");
    if (!read.ok) return this.#refuse(read.reason, OTHER_TICKET);
    // A key-bound ticket in the hands of a password login has lost its key: whoever shows it may have stolen it.
    if (read.claims.cnf !== undefined) return this.#refuse("confirmation", OTHER_TICKET);
    return success({ ticket, claims: read.claims, reused: false, renew: null });
  }

  /**
   * Decides an end-to-end connection by a client's ticket that is bound to its key; the login itself is the VM's to decide.
   * `fingerprint`: of the key that the VM shall admit.
   */
  async admitEndToEnd(ticket: string, fingerprint: string): Promise<Result<Admission>> {
    const checked = await this.#options.verifier.verify(ticket);
    if (!checked.ok) return this.#refuse(checked.reason, TICKET_MESSAGES[checked.reason] ?? OTHER_TICKET);
    const read = readClaims(checked.claims, { vmId: checked.claims.vm, linuxUser: null }, "client");
    if (!read.ok) return this.#refuse(read.reason, OTHER_TICKET);
    if (read.claims.cnf?.ssh !== fingerprint) return this.#refuse("confirmation", OTHER_TICKET);
    return success({ ticket, claims: read.claims, reused: false, renew: null });
  }

  /** By a ticket of an earlier login if one is still good, else by one question to the edge, however many log in alike. */
  async #byToken(caller: Caller, token: string, signal: AbortSignal): Promise<Result<Admission>> {
    if (token.length > MAX_TOKEN_LENGTH) return failure("credential-invalid", "The access token was not accepted.");
    const name = loginName(caller, token);
    const kept = this.#kept.find(name);
    if (kept !== null) {
      const checked = await this.#options.verifier.verify(kept.ticket);
      if (checked.ok) return success({ ...kept, reused: true, renew: this.#renewal(caller, token) });
      this.#kept.drop(name);
    }
    return this.#asking.join(name, signal, (shared) => this.#ask(caller, token, shared, { fresh: false }));
  }

  async #ask(caller: Caller, token: string, signal: AbortSignal, want: Want): Promise<Result<Admission>> {
    const { source, verifier, forwarderId } = this.#options;
    const name = loginName(caller, token);
    const answer = await source.requestTicket(
      {
        vmId: caller.login.vmId,
        linuxUser: caller.login.linuxUser,
        token,
        forwarderId,
        clientAddress: caller.address.slice(0, 64),
        ...want,
      },
      signal,
    );
    if (!answer.ok) {
      this.#kept.drop(name);
      return answer;
    }
    const checked = await verifier.verify(answer.value);
    if (!checked.ok) {
      const voidedKey = checked.reason === "voided-key" ? ticketKeyId(answer.value) : null;
      const again: Want = voidedKey === null ? { fresh: true } : { fresh: true, voidedKey };
      if (!want.fresh && isStale(checked.reason)) return this.#ask(caller, token, signal, again);
      return this.#refuse(checked.reason, UNAVAILABLE);
    }
    const read = readClaims(checked.claims, caller.login, `forwarder:${forwarderId}`);
    if (!read.ok) return this.#refuse(read.reason, UNAVAILABLE);
    const admission: Admission = { ticket: answer.value, claims: read.claims, reused: false, renew: this.#renewal(caller, token) };
    this.#kept.keep(name, admission);
    return success(admission);
  }

  #renewal(caller: Caller, token: string): NonNullable<Admission["renew"]> {
    return (signal) => this.#ask(caller, token, signal, { fresh: true });
  }

  #refuse(reason: TicketRefusal | Mismatch, shown: Failure): { ok: false; failure: Failure } {
    this.#options.log.info("ticket refused", { reason });
    return { ok: false, failure: shown };
  }
}

const MAX_TOKEN_LENGTH = 256;

type Want = Pick<SshTicketRequest, "fresh" | "voidedKey">;

/** How a good ticket is not for what it was shown for; goes to the log only. */
type Mismatch = "other-operation" | "other-vm" | "other-user" | "carrier" | "confirmation";

type ReadClaims = { readonly ok: true; readonly claims: AdmittedClaims } | { readonly ok: false; readonly reason: Mismatch };

/** The claims, if the ticket is for SSH to the VM, and as the Linux user, that the login names, in the hands of `carrier`. */
function readClaims(claims: TicketClaims, login: Omit<Login, "token">, carrier: TicketClaims["azp"]): ReadClaims {
  const { op, user, vm, azp } = claims;
  if (op !== "ssh") return { ok: false, reason: "other-operation" };
  if (vm !== login.vmId) return { ok: false, reason: "other-vm" };
  if (user === null || (login.linuxUser !== null && login.linuxUser !== user)) return { ok: false, reason: "other-user" };
  if (azp !== carrier) return { ok: false, reason: "carrier" };
  return { ok: true, claims: { ...claims, op, user } };
}

function isStale(reason: TicketRefusal): boolean {
  return reason === "stale-epoch" || reason === "stale-authority" || reason === "voided-key";
}

const OTHER_TICKET: Failure = {
  kind: "ticket-refused",
  message: "The ticket was not accepted for this VM and Linux user. Ask for a new one.",
};

// Only for refusals that can follow a good signature: a stranger's forgery learns nothing.
const TICKET_MESSAGES: Partial<Record<TicketRefusal, Failure>> = {
  expired: { kind: "ticket-refused", message: "The ticket has expired. Ask for a new one." },
  replayed: { kind: "ticket-refused", message: "The ticket has been used already: a ticket is good for one login." },
  "stale-epoch": { kind: "ticket-refused", message: "Access has changed since the ticket was made. Ask for a new one." },
  "voided-key": { kind: "ticket-refused", message: "The ticket counts for nothing any more. Ask for a new one." },
  "stale-authority": UNAVAILABLE,
  // The edge's signature on a ticket from the future: this machine's clock is behind, and the ticket is not at fault.
  "not-yet-valid": UNAVAILABLE,
  "keys-unavailable": UNAVAILABLE,
};
