import type { HttpBindings } from "@hono/node-server";
import type { Context, MiddlewareHandler } from "hono";
import type { z } from "zod";
import { failure, type Result } from "../protocol/failures.ts";
import type { Operation } from "../protocol/operations.ts";
import type { Log } from "../service/log.ts";
import { failureAnswer } from "./answers.ts";
import type { Admission, Gate } from "./gate.ts";

export interface HostEnv {
  Bindings: HttpBindings;
  Variables: { log: Log };
}
export type HostContext = Context<HostEnv>;
export type Handler = (context: HostContext, vmId: string, admission: Admission) => Promise<Response>;

/** Puts the gate in front of a handler: only a ticket for the route's VM and this operation reaches it. */
export type Guard = (operation: Operation, handler: Handler) => (context: HostContext) => Promise<Response>;

/** What every group of routes is mounted with. */
export interface RouteTools {
  readonly guarded: Guard;
  /** Refuses a JSON body that is too large. */
  readonly jsonLimit: MiddlewareHandler<HostEnv>;
}

/** Marks a VM as used until the returned function is called. */
export type BeginUse = (vmId: string) => () => void;

/** Operations that a VM is used by; the rest is about it. */
const USES: ReadonlySet<Operation> = new Set(["exec", "files", "services", "start"]);

export function guardedBy(gate: Gate, beginUse: BeginUse): Guard {
  return (operation, handler) => async (context) => {
    const vmId = context.req.param("vm") ?? "";
    const admission = await gate.admit(context.req.header("authorization"), { vmId, operation }, context.get("log"));
    if (!admission.ok) return failureAnswer(admission.failure);
    const { sub, cred } = admission.value.claims;
    context.set("log", context.get("log").child({ op: operation, vm: vmId, user: admission.value.linuxUser, sub, cred }));
    if (!USES.has(operation)) return handler(context, vmId, admission.value);
    const end = beginUse(vmId);
    try {
      return await handler(context, vmId, admission.value);
    } finally {
      end();
    }
  };
}

export async function readJson<Schema extends z.ZodType>(context: HostContext, schema: Schema): Promise<Result<z.infer<Schema>>> {
  let body: unknown;
  try {
    body = await context.req.json();
  } catch {
    return failure("bad-request", "The body is not JSON.");
  }
  return checked(schema, body, "body");
}

export function readQuery<Schema extends z.ZodType>(context: HostContext, schema: Schema): Result<z.infer<Schema>> {
  return checked(schema, context.req.query(), "query");
}

/** Checks what came in; `bad-request` names the member that is wrong, or the whole by `whole`. */
export function checked<Schema extends z.ZodType>(schema: Schema, value: unknown, whole: string): Result<z.infer<Schema>> {
  const read = schema.safeParse(value);
  if (read.success) return { ok: true, value: read.data };
  const issue = read.error.issues[0];
  const path = issue?.path.join(".") ?? "";
  return failure("bad-request", `${path || whole}: ${issue?.message ?? "wrong form"}`, { path });
}
