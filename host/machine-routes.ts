import type { Hono } from "hono";
import { idlePolicy, machineResources, takeSnapshot } from "../protocol/host-api.ts";
import { failureAnswer } from "./answers.ts";
import type { Machines } from "./machines.ts";
import { type HostEnv, type RouteTools, readJson } from "./routing.ts";
import type { Snapshots } from "./snapshots.ts";

export interface MachineParts {
  readonly machines: Machines;
  readonly snapshots: Snapshots;
}

/** Routes that change what a machine is rather than what it does: its sizes, when it sleeps, and copies of its disk. */
export function mountMachineChanges(app: Hono<HostEnv>, { guarded, jsonLimit }: RouteTools, parts: MachineParts): void {
  const { machines, snapshots } = parts;
  app.post(
    "/vms/:vm/resize",
    jsonLimit,
    guarded("resize", async (context, vmId) => {
      const wish = await readJson(context, machineResources);
      if (!wish.ok) return failureAnswer(wish.failure);
      const resized = await machines.resize(vmId, wish.value);
      return resized.ok ? context.json(resized.value) : failureAnswer(resized.failure);
    }),
  );
  app.put(
    "/vms/:vm/idle",
    jsonLimit,
    guarded("update", async (context, vmId) => {
      const policy = await readJson(context, idlePolicy);
      if (!policy.ok) return failureAnswer(policy.failure);
      const set = machines.setIdlePolicy(vmId, policy.value);
      return set.ok ? context.json(set.value) : failureAnswer(set.failure);
    }),
  );
  app.post(
    "/vms/:vm/snapshots",
    jsonLimit,
    guarded("snapshot", async (context, vmId, { claims }) => {
      const wish = await readJson(context, takeSnapshot);
      if (!wish.ok) return failureAnswer(wish.failure);
      const machine = machines.find(vmId);
      if (!machine.ok) return failureAnswer(machine.failure);
      const taken = await snapshots.take(machine.value, wish.value.snapshotId, claims.sub);
      return taken.ok ? context.json({}) : failureAnswer(taken.failure);
    }),
  );
  app.delete(
    "/vms/:vm/snapshots/:id",
    guarded("snapshot", async (context, vmId) => {
      const deleted = await snapshots.delete(vmId, context.req.param("id") ?? "");
      return deleted.ok ? context.json({}) : failureAnswer(deleted.failure);
    }),
  );
}
