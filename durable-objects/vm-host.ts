import type { Clock, RandomBytes } from "../protocol/bytes.ts";
import { failure, isFailure, type Result, success } from "../protocol/failures.ts";
import { type MachineStatus, machineStatus } from "../protocol/host-api.ts";
import type { Operation } from "../protocol/operations.ts";
import { accountSubject } from "../protocol/subjects.ts";
import { mintTicket } from "../worker/tickets/mint.ts";
import type { Env } from "./env.ts";
import type { Settings } from "./settings.ts";
import type { VmRow } from "./vm-store.ts";

type MachineOperation = Extract<Operation, "create" | "read" | "start" | "stop" | "suspend" | "delete">;

const ROUTES: Readonly<Record<MachineOperation, readonly [method: string, suffix: string]>> = {
  create: ["PUT", ""],
  read: ["GET", ""],
  start: ["POST", "/start"],
  stop: ["POST", "/stop"],
  suspend: ["POST", "/suspend"],
  delete: ["DELETE", ""],
};

/** `credentialId` of verdicts that a VM's object makes on behalf of its account. */
const VM_OBJECT_CREDENTIAL = "vm-object";

/** What came of a call: the machine's status, the host's refusal, or nothing that can be relied on. */
export type HostOutcome = Result<MachineStatus>;

/** Whether an outcome leaves open what the host has done, so that it must be asked again. */
export function isUnsettled(outcome: HostOutcome): boolean {
  return !outcome.ok && (outcome.failure.kind === "host-unavailable" || outcome.failure.kind === "authority-unavailable");
}

/** Asks a VM's host for something, with a ticket of the VM's account. */
export class VmHost {
  readonly #env: Env;
  readonly #settings: Settings;
  readonly #clock: Clock;
  readonly #randomBytes: RandomBytes;

  constructor(env: Env, settings: Settings, clock: Clock, randomBytes: RandomBytes) {
    this.#env = env;
    this.#settings = settings;
    this.#clock = clock;
    this.#randomBytes = randomBytes;
  }

  /** Never throws: whatever cannot be reached or understood is `host-unavailable` or `authority-unavailable`. */
  async call(row: VmRow, operation: MachineOperation): Promise<HostOutcome> {
    const first = await this.#attempt(row, operation);
    // The account was narrowed since its epoch was read: read it again, once.
    const isStale = !first.ok && (first.failure.kind === "stale-epoch" || first.failure.kind === "stale-authority");
    const outcome = isStale ? await this.#attempt(row, operation) : first;
    return !outcome.ok && isTicketTrouble(outcome.failure.kind) ? unavailable("refused the edge's ticket") : outcome;
  }

  async #attempt(row: VmRow, operation: MachineOperation): Promise<HostOutcome> {
    let ticket: string;
    try {
      ticket = await this.#ticket(row, operation);
    } catch (error) {
      console.error(JSON.stringify({ message: "no ticket for a VM's host", vm: row.id, operation, error: String(error) }));
      return failure("authority-unavailable", "The authority could not be reached. Try again shortly.");
    }
    try {
      const response = await fetch(this.#request(row, operation, ticket));
      return readOutcome(response.ok, await response.json());
    } catch (error) {
      console.warn(JSON.stringify({ message: "a VM's host did not answer", vm: row.id, operation, error: String(error) }));
      return unavailable("did not answer");
    }
  }

  #request(row: VmRow, operation: MachineOperation, ticket: string): Request {
    const [method, suffix] = ROUTES[operation];
    const limit = operation === "create" ? this.#settings.VM_CREATE_LIMIT_MS : this.#settings.VM_CALL_LIMIT_MS;
    const isCreate = operation === "create";
    return new Request(`${row.hostUrl}/vms/${row.id}${suffix}`, {
      method,
      headers: { authorization: `Bearer ${ticket}`, ...(isCreate ? { "content-type": "application/json" } : {}) },
      ...(isCreate ? { body: JSON.stringify({ users: row.spec.users, groups: row.spec.groups }) } : {}),
      // A ticket goes to the host it was made for and nowhere else.
      redirect: "manual",
      signal: AbortSignal.timeout(limit),
    });
  }

  async #ticket(row: VmRow, operation: MachineOperation): Promise<string> {
    const account = this.#env.ACCOUNT.getByName(row.accountId);
    const standing = await account.epoch();
    if (!standing.ok) throw new Error(`the VM's account answered ${standing.failure.kind}`);
    const { ticket } = await mintTicket(
      this.#env,
      {
        subject: accountSubject(row.accountId),
        accountId: row.accountId,
        credentialId: VM_OBJECT_CREDENTIAL,
        vmId: row.id,
        operation,
        linuxUser: null,
        epoch: standing.value.epoch,
        readAt: standing.value.readAt,
        expiresAt: null,
      },
      { hostId: row.hostId, hostUrl: row.hostUrl, azp: "edge", now: this.#clock(), randomBytes: this.#randomBytes },
    );
    return ticket;
  }
}

function readOutcome(isSuccess: boolean, body: unknown): HostOutcome {
  if (!isSuccess) return isFailure(body) ? { ok: false, failure: body } : unavailable("answered in a way that is not understood");
  const status = machineStatus.safeParse(body);
  return status.success ? success(status.data) : unavailable("answered in a way that is not understood");
}

function isTicketTrouble(kind: string): boolean {
  return kind === "ticket-refused" || kind === "stale-epoch" || kind === "stale-authority";
}

function unavailable(what: string): HostOutcome {
  return failure("host-unavailable", `The VM's host ${what}. Try again shortly.`);
}
