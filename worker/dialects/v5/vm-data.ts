import { z } from "zod";
import type { ListedVm, VmState } from "../../../durable-objects/vm-contract.ts";
import { publicPort } from "../../../protocol/host-api.ts";
import { emptyList, isoTime } from "../translate.ts";

/** States that 0.2 knows. */
export const STATES = ["starting", "running", "pausing", "paused", "stopped"] as const;

const SHOWN_STATE = {
  starting: "starting",
  running: "running",
  suspending: "pausing",
  suspended: "paused",
  stopped: "stopped",
  // 0.2 has no word for a VM whose machine is gone: it does not run.
  lost: "stopped",
  deleted: "stopped",
} as const satisfies Record<VmState, (typeof STATES)[number]>;

/** A state as a list is asked for it. A VM that is lost is found by leaving the state out. */
export const STORED_STATE = {
  starting: "starting",
  running: "running",
  pausing: "suspending",
  paused: "suspended",
  stopped: "stopped",
} as const satisfies Record<(typeof STATES)[number], VmState>;

const seconds = z.int().nullable();

/** A VM as 0.2 reads it (contract section 3.3). */
export const vmData = z.object({
  id: z.string(),
  state: z.enum(STATES),
  slug: z.string().nullable(),
  displayName: z.string().nullable(),
  /** 0: not limited, so as much as the host has. */
  resources: z.object({ cpu: z.int(), memory: z.int(), storage: z.int() }),
  snapshotId: z.string().nullable(),
  idleTimeoutSeconds: seconds,
  autoDeleteSeconds: seconds,
  ttlSeconds: seconds,
  automaticRestart: z.literal(false),
  metadata: z.record(z.string(), z.string()),
  placement: z.object({ region: z.string() }),
  ports: z.array(publicPort),
  vpcs: emptyList,
  networks: emptyList,
  createdAt: z.string(),
  updatedAt: z.string(),
});

export function toVmData(vm: ListedVm): z.output<typeof vmData> {
  const { cpu = 0, memory = 0, storage = 0 } = vm.resources;
  return {
    id: vm.id,
    state: SHOWN_STATE[vm.state],
    slug: vm.slug,
    displayName: vm.name,
    resources: { cpu, memory, storage },
    snapshotId: vm.snapshotId,
    idleTimeoutSeconds: vm.idleTimeoutSeconds,
    autoDeleteSeconds: vm.autoDeleteSeconds,
    ttlSeconds: vm.ttlSeconds,
    automaticRestart: false,
    metadata: vm.metadata,
    placement: { region: vm.region },
    ports: [...vm.ports],
    vpcs: [],
    networks: [],
    createdAt: isoTime(vm.createdAt),
    updatedAt: isoTime(vm.updatedAt),
  };
}
