import type { IncomingMessage } from "node:http";
import type { HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { z } from "zod";
import { failure, type Result } from "../protocol/failures.ts";
import { FILE_KIND_HEADER, TRACE_HEADER } from "../protocol/headers.ts";
import { createMachine, execRequest, type MachineStatus } from "../protocol/host-api.ts";
import type { Operation } from "../protocol/operations.ts";
import type { Log } from "../service/log.ts";
import { failureAnswer } from "./answers.ts";
import { sendFile } from "./download.ts";
import type { Exec } from "./exec.ts";
import type { Files } from "./files.ts";
import type { Admission, Gate } from "./gate.ts";
import type { Machines } from "./machines.ts";
import { traceOf } from "./trace.ts";

export interface HostParts {
  readonly gate: Gate;
  readonly machines: Machines;
  readonly exec: Exec;
  readonly files: Files;
  /** Largest JSON body, in bytes. */
  readonly jsonBytes: number;
  readonly log: Log;
}

interface HostEnv {
  Bindings: HttpBindings;
  Variables: { log: Log };
}
type HostContext = Context<HostEnv>;
type Handler = (context: HostContext, vmId: string, admission: Admission) => Promise<Response>;

/** The host's HTTP routes, as the table in `protocol/host-api.ts` has them; `CONNECT` is `Tunnels`' part. */
export function createHostApp(parts: HostParts): Hono<HostEnv> {
  const { machines, exec, files } = parts;
  const app = new Hono<HostEnv>();
  const guarded = guardedBy(parts.gate);
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
    context.get("log").info("request", { method: context.req.method, path: context.req.path, status: context.res.status, ms });
  });

  app.get(
    "/vms/:vm",
    guarded("read", async (context, vmId) => statusAnswer(context, machines.read(vmId))),
  );
  app.put(
    "/vms/:vm",
    jsonLimit,
    guarded("create", async (context, vmId) => {
      const wish = await readJson(context, createMachine);
      return wish.ok ? statusAnswer(context, await machines.create(vmId, wish.value)) : failureAnswer(wish.failure);
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
      const answer = await exec.run(machine.value, linuxUser, request.value, context.req.raw.signal);
      return answer.ok ? context.json(answer.value) : failureAnswer(answer.failure);
    }),
  );
  app.get(
    "/vms/:vm/files",
    guarded("files", async (context, vmId, { linuxUser }) => {
      const machine = machines.find(vmId);
      if (!machine.ok) return failureAnswer(machine.failure);
      const read = await files.read(machine.value, linuxUser, context.req.query("path") ?? "");
      if (!read.ok) return failureAnswer(read.failure);
      context.header(FILE_KIND_HEADER, read.value.kind);
      if (read.value.kind === "directory") return context.json(read.value.listing);
      const headers = { [FILE_KIND_HEADER]: "file", [TRACE_HEADER]: traceOf(context.req.header(TRACE_HEADER)) };
      await sendFile(context.env.outgoing, read.value, headers, context.get("log"));
      return RESPONSE_ALREADY_SENT;
    }),
  );
  app.put(
    "/vms/:vm/files",
    guarded("files", async (context, vmId, { linuxUser }) => {
      const machine = machines.find(vmId);
      if (!machine.ok) return failureAnswer(machine.failure);
      const content: IncomingMessage = context.env.incoming;
      const written = await files.write(machine.value, linuxUser, context.req.query("path") ?? "", content);
      return written.ok ? context.json({}) : failureAnswer(written.failure);
    }),
  );
  app.notFound(() => failureAnswer(failure("route-not-found", "The host has no such route.").failure));
  app.onError((error, context) => {
    context.get("log").error("request failed", { error: error.message, stack: error.stack });
    return failureAnswer(failure("internal", "The host failed. The trace id names the failure in its log.").failure);
  });
  return app;
}

function guardedBy(gate: Gate) {
  return (operation: Operation, handler: Handler) =>
    async (context: HostContext): Promise<Response> => {
      const vmId = context.req.param("vm") ?? "";
      const admission = await gate.admit(context.req.header("authorization"), { vmId, operation }, context.get("log"));
      if (!admission.ok) return failureAnswer(admission.failure);
      const { sub, cred } = admission.value.claims;
      context.set("log", context.get("log").child({ op: operation, vm: vmId, user: admission.value.linuxUser, sub, cred }));
      return handler(context, vmId, admission.value);
    };
}

function statusAnswer(context: HostContext, status: Result<MachineStatus>): Response {
  return status.ok ? context.json(status.value) : failureAnswer(status.failure);
}

async function readJson<Schema extends z.ZodType>(context: HostContext, schema: Schema): Promise<Result<z.infer<Schema>>> {
  let body: unknown;
  try {
    body = await context.req.json();
  } catch {
    return failure("bad-request", "The body is not JSON.");
  }
  const read = schema.safeParse(body);
  if (read.success) return { ok: true, value: read.data };
  const issue = read.error.issues[0];
  const path = issue?.path.join(".") ?? "";
  return failure("bad-request", `${path || "body"}: ${issue?.message ?? "wrong form"}`, { path });
}
