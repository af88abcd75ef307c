import { failure, type Result, success } from "../protocol/failures.ts";
import { isVmId } from "../protocol/ids.ts";
import { actsAsLinuxUser, type Operation } from "../protocol/operations.ts";
import type { TicketClaims } from "../protocol/ticket.ts";
import type { TicketVerifier } from "../protocol/verifier.ts";
import type { Log } from "../service/log.ts";

/** What a route does, so that a ticket for something else does not open it. */
export interface Wanted {
  readonly vmId: string;
  readonly operation: Operation;
}

/**
 * A checked ticket. `linuxUser` is `root` where the operation is on the machine itself and nobody in the guest acts; it is
 * `IMAGE_USER` where `Accounts.whoIs` must say who acts.
 */
export interface Admission {
  readonly claims: TicketClaims;
  readonly linuxUser: string;
}

/**
 * Lets a request in by its ticket or refuses it. Why a ticket was refused goes to the log only; the one who showed it
 * learns whether a new one may help (`stale-epoch`, `stale-authority`) or not (`ticket-refused`).
 */
export class Gate {
  readonly #verifier: () => TicketVerifier | null;

  /** `verifier` gives null until the host has joined its region: then nothing is let in. */
  constructor(verifier: () => TicketVerifier | null) {
    this.#verifier = verifier;
  }

  /** `authorization`: value of `Authorization` or `Proxy-Authorization` (RFC 6750 section 2.1). */
  async admit(authorization: string | undefined, wanted: Wanted, log: Log): Promise<Result<Admission>> {
    const verifier = this.#verifier();
    if (verifier === null) return failure("host-unavailable", "The host has not joined its region yet. Try again.");
    const ticket = /^Bearer ([\w.-]{1,8192})$/i.exec(authorization ?? "")?.[1];
    if (ticket === undefined) return refuse("absent", log);
    if (!isVmId(wanted.vmId)) return refuse("route", log);
    const checked = await verifier.verify(ticket);
    if (!checked.ok) return refuse(checked.reason, log);
    const { claims } = checked;
    if (claims.vm !== wanted.vmId) return refuse("other-vm", log);
    if (claims.op !== wanted.operation) return refuse("other-operation", log);
    if (actsAsLinuxUser(claims.op) !== (claims.user !== null)) return refuse("user", log);
    // RFC 7800: a ticket that is bound to an SSH key can only be proved over SSH.
    if (claims.cnf !== undefined && claims.op !== "ssh") return refuse("confirmation", log);
    return success({ claims, linuxUser: claims.user ?? "root" });
  }
}

function refuse(reason: string, log: Log): Result<never> {
  log.warn("ticket refused", { reason });
  switch (reason) {
    case "stale-epoch":
      return failure("stale-epoch", "The ticket's permission has changed since it was issued.");
    case "stale-authority":
      return failure("stale-authority", "The host has not heard from its region and needs a fresher ticket.");
    case "voided-key":
      return failure("stale-authority", "The key that signed the ticket was withdrawn: a new ticket is needed.", {
        voidedKey: true,
      });
    case "keys-unavailable":
      return failure("authority-unavailable", "The host could not fetch the ticket keys. Try again.");
    default:
      return failure("ticket-refused", "The ticket was refused.");
  }
}
