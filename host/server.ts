import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { failure, type Result } from "../protocol/failures.ts";
import { ACTED_AS_HEADER, TRACE_HEADER, TUNNEL_HEADER } from "../protocol/headers.ts";
import { createMachine, execRequest, type MachineStatus } from "../protocol/host-api.ts";
import type { Log } from "../service/log.ts";
import { failureAnswer } from "./answers.ts";
import { diskFull, isDiskFull } from "./disk-full.ts";
import type { Exec } from "./exec.ts";
import { type FileParts, mountFiles } from "./file-routes.ts";
import type { Gate } from "./gate.ts";
import type { HostMetrics } from "./host-metrics.ts";
import type { IdleWatch } from "./idle.ts";
import { type JobParts, mountJobs } from "./job-routes.ts";
import { type MachineParts, mountMachineChanges } from "./machine-routes.ts";
import type { Machines } from "./machines.ts";
import { guardedBy, type HostContext, type HostEnv, readJson } from "./routing.ts";
import { mountServices, type ServiceParts } from "./service-routes.ts";
import { mountTerminals, type TerminalParts } from "./terminals/routes.ts";
import { traceOf } from "./trace.ts";
import type { TunnelRegister } from "./tunnel-register.ts";

export interface HostParts extends FileParts, JobParts, MachineParts, ServiceParts, TerminalParts {
  readonly gate: Gate;
  readonly machines: Machines;
  readonly exec: Exec;
  readonly idle: IdleWatch;
  readonly tunnelRegister: TunnelRegister;
  readonly metrics: HostMetrics;
  /** Largest JSON body, in bytes. */
  readonly jsonBytes: number;
  readonly log: Log;
}

/** The host's HTTP routes, as the table in `protocol/host-api.ts` has them; `CONNECT` is `Tunnels`' part, WebSockets are `TerminalUpgrades`'. */
export function createHostApp(parts: HostParts): Hono<HostEnv> {
  const { machines, exec } = parts;
  const app = new Hono<HostEnv>();
  const guarded = guardedBy(parts.gate, (vmId) => parts.idle.begin(vmId));
  const jsonLimit = bodyLimit({
    maxSize: parts.jsonBytes,
    onError: () => failureAnswer(failure("payload-too-large", `A request may have at most ${parts.jsonBytes} bytes.`).failure),
  });

  app.use(async (context, next) => {
    const before = performance.now();
    const trace = traceOf(context.req.header(TRACE_HEADER));
    context.set("log", parts.log.child({ trace }));
    await next();
    const { incoming, outgoing } = context.env;
    if (!outgoing.headersSent) {
      context.header(TRACE_HEADER, trace);
      // A body that nobody read is in the way of the next request on the connection.
      if (!incoming.complete) context.header("connection", "close");
    }
    const ms = Math.round(performance.now() - before);
    parts.metrics.requests({ status: String(context.res.status) });
    context.get("log").info("request", { method: context.req.method, path: context.req.path, status: context.res.status, ms });
  });

  // The id is the leave: only the tunnel's forwarder was given it.
  const tunnelOf = (context: HostContext) => context.req.header(TUNNEL_HEADER) ?? "";
  app.get("/tunnel/end", (context) => context.json({ reason: parts.tunnelRegister.whyCut(tunnelOf(context)) }));
  app.post("/tunnel/use", (context) => {
    const vmId = parts.tunnelRegister.vmOf(tunnelOf(context));
    if (vmId === null) return failureAnswer(failure("route-not-found", "There is no such tunnel.").failure);
    parts.idle.note(vmId);
    return context.body(null, 204);
  });
  app.get(
    "/vms/:vm",
    guarded("read", async (context, vmId) => statusAnswer(context, machines.read(vmId))),
  );
  app.put(
    "/vms/:vm",
    jsonLimit,
    guarded("create", async (context, vmId, { claims }) => {
      const wish = await readJson(context, createMachine);
      return wish.ok ? statusAnswer(context, await machines.create(vmId, wish.value, claims.sub)) : failureAnswer(wish.failure);
    }),
  );
  app.delete(
    "/vms/:vm",
    guarded("delete", async (context, vmId) => statusAnswer(context, await machines.delete(vmId))),
  );
  app.post(
    "/vms/:vm/start",
    guarded("start", async (context, vmId) => {
      const machine = machines.find(vmId);
      if (!machine.ok) return failureAnswer(machine.failure);
      const woken = await machine.value.wake();
      return woken.ok ? context.json(machine.value.status()) : failureAnswer(woken.failure);
    }),
  );
  for (const operation of ["stop", "suspend"] as const) {
    app.post(
      `/vms/:vm/${operation}`,
      guarded(operation, async (context, vmId) => {
        const machine = machines.find(vmId);
        return machine.ok ? statusAnswer(context, await machine.value[operation]()) : failureAnswer(machine.failure);
      }),
    );
  }
  app.post(
    "/vms/:vm/exec",
    jsonLimit,
    guarded("exec", async (context, vmId, { linuxUser }) => {
      const machine = machines.find(vmId);
      if (!machine.ok) return failureAnswer(machine.failure);
      const request = await readJson(context, execRequest);
      if (!request.ok) return failureAnswer(request.failure);
      const answer = await exec.run(machine.value, linuxUser, request.value, context.req.raw.signal, (user) =>
        context.header(ACTED_AS_HEADER, user),
      );
      return answer.ok ? context.json(answer.value) : failureAnswer(answer.failure);
    }),
  );
  mountFiles(app, { guarded, jsonLimit }, parts);
  mountMachineChanges(app, { guarded, jsonLimit }, parts);
  mountJobs(app, { guarded, jsonLimit }, parts);
  mountServices(app, { guarded, jsonLimit }, parts);
  mountTerminals(app, { guarded, jsonLimit }, parts);
  app.notFound(() => failureAnswer(failure("route-not-found", "The host has no such route.").failure));
  app.onError((error, context) => {
    context.get("log").error("request failed", { error: error.message, stack: error.stack });
    if (isDiskFull(error)) return failureAnswer(diskFull("Nothing was changed.").failure);
    return failureAnswer(failure("internal", "The host failed. The trace id names the failure in its log.").failure);
  });
  return app;
}

function statusAnswer(context: HostContext, status: Result<MachineStatus>): Response {
  return status.ok ? context.json(status.value) : failureAnswer(status.failure);
}
