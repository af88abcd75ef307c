import type { Hono } from "hono";
import type { Result } from "../protocol/failures.ts";
import { serviceAction, serviceLogsQuery, serviceUnit } from "../protocol/host-api.ts";
import { failureAnswer } from "./answers.ts";
import type { ManagedMachine } from "./machine.ts";
import type { Machines } from "./machines.ts";
import { type HostContext, type HostEnv, type RouteTools, readJson, readQuery } from "./routing.ts";
import type { Services } from "./services.ts";

export interface ServiceParts {
  readonly machines: Machines;
  readonly services: Services;
}

type Work = (context: HostContext, machine: ManagedMachine, linuxUser: string) => Promise<Result<object | null>>;

/** Routes of a guest's services, as the table in `protocol/host-api.ts` has them. */
export function mountServices(app: Hono<HostEnv>, { guarded, jsonLimit }: RouteTools, { machines, services }: ServiceParts): void {
  const route = (work: Work) =>
    guarded("services", async (context, vmId, { linuxUser }) => {
      const machine = machines.find(vmId);
      if (!machine.ok) return failureAnswer(machine.failure);
      const done = await work(context, machine.value, linuxUser);
      return done.ok ? context.json(done.value ?? {}) : failureAnswer(done.failure);
    });
  const nameOf = (context: HostContext) => context.req.param("name") ?? "";

  app.get(
    "/vms/:vm/services",
    route((_context, machine, user) => services.list(machine, user)),
  );
  app.post(
    "/vms/:vm/services",
    jsonLimit,
    route(async (context, machine, user) => {
      const unit = await readJson(context, serviceUnit);
      return unit.ok ? services.create(machine, user, unit.value) : unit;
    }),
  );
  app.post(
    "/vms/:vm/services/act",
    jsonLimit,
    route(async (context, machine, user) => {
      const action = await readJson(context, serviceAction);
      return action.ok ? services.act(machine, user, action.value) : action;
    }),
  );
  app.delete(
    "/vms/:vm/services/:name",
    route((context, machine, user) => services.delete(machine, user, nameOf(context))),
  );
  app.get(
    "/vms/:vm/services/:name",
    route((context, machine, user) => services.status(machine, user, nameOf(context))),
  );
  app.get(
    "/vms/:vm/services/:name/logs",
    route(async (context, machine, user) => {
      const query = readQuery(context, serviceLogsQuery);
      return query.ok ? services.logs(machine, user, nameOf(context), query.value) : query;
    }),
  );
}
