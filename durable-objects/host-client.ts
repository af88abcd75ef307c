import type { Clock, RandomBytes } from "../protocol/bytes.ts";
import { type FailureKind, failure, isFailure, type Result, success } from "../protocol/failures.ts";
import { TRACE_HEADER } from "../protocol/headers.ts";
import type { Operation } from "../protocol/operations.ts";
import { accountSubject } from "../protocol/subjects.ts";
import { mintTicket } from "../worker/tickets/mint.ts";
import { noteRefusal } from "../worker/tickets/signer.ts";
import type { Env } from "./env.ts";
import { within } from "./time-limit.ts";

/** The VM that a call is about, and the host to ask. */
export interface HostTarget {
  readonly vmId: string;
  /** The VM's epoch; `ask`: its object knows. */
  readonly vmEpoch: number | "ask";
  readonly accountId: string;
  readonly hostId: string;
  readonly hostUrl: string;
}

/** One route of `protocol/host-api.ts`. */
export interface HostRoute {
  readonly operation: Operation;
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  /** Below `/vms/:vm`. */
  readonly suffix: string;
  readonly body: object | null;
  /** Longest wait for the answer, in milliseconds. */
  readonly limitMs: number;
  /** Trace id of the request that this is done for; null: for none. */
  readonly trace: string | null;
}

/** `credentialId` of verdicts that an object makes on behalf of its account. */
const OBJECT_CREDENTIAL = "vm-object";

const UNSETTLED: ReadonlySet<FailureKind> = new Set(["host-unavailable", "host-down", "authority-unavailable"]);

/** Whether an outcome leaves open what the host has done, so that it must be asked again. */
export function isUnsettled(outcome: Result<unknown>): boolean {
  return !outcome.ok && UNSETTLED.has(outcome.failure.kind);
}

export function hostUnavailable(what: string): Result<never> {
  return failure("host-unavailable", `The VM's host ${what}. Try again shortly.`);
}

/** Asks hosts for something about an account's VM, with a ticket of that account. */
export class HostClient {
  readonly #env: Env;
  readonly #clock: Clock;
  readonly #randomBytes: RandomBytes;

  constructor(env: Env, clock: Clock, randomBytes: RandomBytes) {
    this.#env = env;
    this.#clock = clock;
    this.#randomBytes = randomBytes;
  }

  /**
   * Answers the host's JSON. Never throws: whatever cannot be reached or understood is `host-unavailable` or
   * `authority-unavailable`.
   */
  async call(target: HostTarget, route: HostRoute): Promise<Result<unknown>> {
    const first = await this.#attempt(target, route);
    // The account was narrowed since its epoch was read: read it again, once.
    const isStale = !first.ok && (first.failure.kind === "stale-epoch" || first.failure.kind === "stale-authority");
    const outcome = isStale ? await this.#attempt(target, route) : first;
    return !outcome.ok && isTicketTrouble(outcome.failure.kind) ? hostUnavailable("refused the edge's ticket") : outcome;
  }

  async #attempt(target: HostTarget, route: HostRoute): Promise<Result<unknown>> {
    const { vmId: vm } = target;
    const { operation, method, suffix, body, limitMs, trace } = route;
    let ticket: string;
    try {
      ticket = await this.#ticket(target, operation);
    } catch (error) {
      console.error(JSON.stringify({ message: "no ticket for a VM's host", vm, operation, error: String(error) }));
      return failure("authority-unavailable", "The authority could not be reached. Try again shortly.");
    }
    try {
      const { isDone, answer } = await within(limitMs, async (signal) => {
        const response = await fetch(`${target.hostUrl}/vms/${vm}${suffix}`, {
          method,
          headers: {
            authorization: `Bearer ${ticket}`,
            ...(trace === null ? {} : { [TRACE_HEADER]: trace }),
            ...(body === null ? {} : { "content-type": "application/json" }),
          },
          ...(body === null ? {} : { body: JSON.stringify(body) }),
          // A ticket goes to the host it was made for and nowhere else.
          redirect: "manual",
          signal,
        });
        return { isDone: response.ok, answer: (await response.json()) as unknown };
      });
      if (isDone) return success(answer);
      if (!isFailure(answer)) return hostUnavailable("answered in a way that is not understood");
      noteRefusal(answer, ticket);
      return { ok: false, failure: answer };
    } catch (error) {
      console.warn(JSON.stringify({ message: "a VM's host did not answer", vm, operation, traceId: trace, error: String(error) }));
      return hostUnavailable("did not answer");
    }
  }

  async #ticket({ vmId, vmEpoch, accountId, hostId, hostUrl }: HostTarget, operation: Operation): Promise<string> {
    const standing = await this.#env.ACCOUNT.getByName(accountId).epoch();
    if (!standing.ok) throw new Error(`the VM's account answered ${standing.failure.kind}`);
    const { epoch, tenancyEpoch, readAt } = standing.value;
    const { ticket } = await mintTicket(
      this.#env,
      {
        subject: accountSubject(accountId),
        accountId,
        credentialId: OBJECT_CREDENTIAL,
        vmId,
        operation,
        linuxUser: null,
        epoch,
        readAt,
        expiresAt: null,
        grant: null,
      },
      {
        hostId,
        hostUrl,
        accountEpoch: tenancyEpoch,
        vmEpoch: vmEpoch === "ask" ? (await this.#env.VM.getByName(vmId).epochs()).epoch : vmEpoch,
        azp: "edge",
        now: this.#clock(),
        randomBytes: this.#randomBytes,
      },
    );
    return ticket;
  }
}

function isTicketTrouble(kind: string): boolean {
  return kind === "ticket-refused" || kind === "stale-epoch" || kind === "stale-authority";
}
