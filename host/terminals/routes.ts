import type { Hono } from "hono";
import { terminalClose } from "../../protocol/host-api.ts";
import { failureAnswer } from "../answers.ts";
import type { Machines } from "../machines.ts";
import { type HostEnv, type RouteTools, readQuery } from "../routing.ts";
import type { Terminals } from "./terminals.ts";

export interface TerminalParts {
  readonly machines: Machines;
  readonly terminals: Terminals;
}

/** Lists terminal sessions, reads their last output, and closes them; none of it wakes a VM. */
export function mountTerminals(app: Hono<HostEnv>, { guarded }: RouteTools, { machines, terminals }: TerminalParts): void {
  app.get(
    "/vms/:vm/terminals",
    guarded("terminal", async (context, vmId, { linuxUser }) => {
      const machine = machines.find(vmId);
      return machine.ok ? context.json(terminals.list(machine.value, linuxUser)) : failureAnswer(machine.failure);
    }),
  );
  app.get(
    "/vms/:vm/terminals/:id/output",
    guarded("terminal", async (context, vmId, { linuxUser }) => {
      const machine = machines.find(vmId);
      if (!machine.ok) return failureAnswer(machine.failure);
      const output = terminals.output(machine.value, linuxUser, context.req.param("id") ?? "");
      return output.ok ? context.json(output.value) : failureAnswer(output.failure);
    }),
  );
  app.delete(
    "/vms/:vm/terminals/:id",
    guarded("terminal", async (context, vmId, { linuxUser }) => {
      const machine = machines.find(vmId);
      if (!machine.ok) return failureAnswer(machine.failure);
      const asked = readQuery(context, terminalClose);
      if (!asked.ok) return failureAnswer(asked.failure);
      const closed = await terminals.close(machine.value, linuxUser, context.req.param("id") ?? "", asked.value.dialect);
      return closed.ok ? context.json(closed.value) : failureAnswer(closed.failure);
    }),
  );
}
