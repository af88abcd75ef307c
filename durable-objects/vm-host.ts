import type { Clock, RandomBytes } from "../protocol/bytes.ts";
import { type Result, success } from "../protocol/failures.ts";
import {
  type CreateMachine,
  type IdlePolicy,
  type MachineResources,
  type MachineStatus,
  machineStatus,
} from "../protocol/host-api.ts";
import type { Operation } from "../protocol/operations.ts";
import type { Env } from "./env.ts";
import { HostClient, type HostRoute, hostUnavailable } from "./host-client.ts";
import type { Settings } from "./settings.ts";
import type { VmRow } from "./vm-store.ts";

/** What is said by the VM's row alone. */
type PlainOperation = Extract<Operation, "create" | "read" | "start" | "stop" | "suspend" | "update" | "delete">;

const ROUTES: Readonly<Record<PlainOperation, readonly [method: HostRoute["method"], suffix: string]>> = {
  create: ["PUT", ""],
  read: ["GET", ""],
  start: ["POST", "/start"],
  stop: ["POST", "/stop"],
  suspend: ["POST", "/suspend"],
  update: ["PUT", "/idle"],
  delete: ["DELETE", ""],
};

/** What came of a call: the machine's status, the host's refusal, or nothing that can be relied on. */
export type HostOutcome = Result<MachineStatus>;

/** Asks a VM's host for something about its machine. Never throws, as `HostClient` does not. */
export class VmHost {
  readonly #client: HostClient;
  readonly #settings: Settings;
  /** Names the request on whose behalf the host is asked, in the host's log; null: it is the object's own doing. */
  trace: string | null = null;

  constructor(env: Env, settings: Settings, clock: Clock, randomBytes: RandomBytes) {
    this.#client = new HostClient(env, clock, randomBytes);
    this.#settings = settings;
  }

  async call(row: VmRow, operation: PlainOperation): Promise<HostOutcome> {
    const [method, suffix] = ROUTES[operation];
    const limitMs = operation === "create" ? this.#settings.VM_CREATE_LIMIT_MS : this.#settings.VM_CALL_LIMIT_MS;
    return this.#ask(row, { operation, method, suffix, body: bodyOf(row, operation), limitMs, trace: this.trace });
  }

  async resize(row: VmRow, resources: MachineResources): Promise<HostOutcome> {
    const limitMs = this.#settings.VM_CALL_LIMIT_MS;
    return this.#ask(row, { operation: "resize", method: "POST", suffix: "/resize", body: resources, limitMs, trace: this.trace });
  }

  async #ask(row: VmRow, route: HostRoute): Promise<HostOutcome> {
    const answer = await this.#client.call({ ...row, vmId: row.id, vmEpoch: row.epoch }, route);
    if (!answer.ok) return answer;
    const status = machineStatus.safeParse(answer.value);
    return status.success ? success(status.data) : hostUnavailable("answered in a way that is not understood");
  }
}

function bodyOf({ spec, traits }: VmRow, operation: PlainOperation): CreateMachine | IdlePolicy | null {
  const { idleTimeoutSeconds, activityThresholdBytes } = traits;
  if (operation === "update") return { idleTimeoutSeconds, activityThresholdBytes };
  if (operation !== "create") return null;
  const { users, groups, files, resources, snapshotId, firewall } = spec;
  return {
    users: [...users],
    groups: [...groups],
    files: [...files],
    resources,
    snapshotId,
    // The only rule that is ever stored opens the public internet.
    internet: firewall.length > 0,
    idleTimeoutSeconds,
    activityThresholdBytes,
  };
}
