import type { IncomingMessage } from "node:http";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import type { Hono } from "hono";
import type { Result } from "../protocol/failures.ts";
import { FILE_KIND_HEADER, TRACE_HEADER } from "../protocol/headers.ts";
import { filePath, fileRead, fileWrite, uploadOffset, uploadRequest } from "../protocol/host-api.ts";
import type { LiveSessions } from "../service/live-sessions.ts";
import { failureAnswer } from "./answers.ts";
import { sendFile } from "./download.ts";
import type { Files } from "./files.ts";
import type { Admission } from "./gate.ts";
import type { IdleWatch } from "./idle.ts";
import type { ManagedMachine } from "./machine.ts";
import type { Machines } from "./machines.ts";
import { type Guard, type HostContext, type HostEnv, type RouteTools, readJson, readQuery } from "./routing.ts";
import { traceOf } from "./trace.ts";
import type { Uploader, Uploads } from "./uploads/uploads.ts";
import { sendEvents } from "./watch/send.ts";
import type { Watches } from "./watch/watches.ts";

export interface FileParts {
  readonly machines: Machines;
  readonly files: Files;
  readonly uploads: Uploads;
  readonly watches: Watches;
  readonly idle: IdleWatch;
  /** Null until the host has joined its region: then the gate lets nobody in either. */
  readonly live: () => LiveSessions | null;
}

type FileHandler = (context: HostContext, machine: ManagedMachine, admission: Admission) => Promise<Response>;

/** The routes for files of guests, those that come in pieces, and watches. */
export function mountFiles(app: Hono<HostEnv>, { guarded, jsonLimit }: RouteTools, parts: FileParts): void {
  const { files } = parts;
  const on = forMachine(guarded, parts.machines);

  app.get(
    "/vms/:vm/files",
    on(async (context, machine, { linuxUser }) => {
      const wish = readQuery(context, fileRead);
      if (!wish.ok) return failureAnswer(wish.failure);
      const { path, kind } = wish.value;
      const read = await files.read(machine, linuxUser, path, { kind, range: context.req.header("range") });
      if (!read.ok) return failureAnswer(read.failure);
      if (read.value.kind === "directory") {
        context.header(FILE_KIND_HEADER, "directory");
        return context.json(read.value.listing);
      }
      await sendFile(context.env.outgoing, read.value, { [FILE_KIND_HEADER]: "file", ...traceHeader(context) }, context.get("log"));
      return RESPONSE_ALREADY_SENT;
    }),
  );
  app.put(
    "/vms/:vm/files",
    on(async (context, machine, { linuxUser }) => {
      const wish = readQuery(context, fileWrite);
      if (!wish.ok) return failureAnswer(wish.failure);
      const { path, mode = null, newMode = null, sha256 = null } = wish.value;
      return emptyAnswer(await files.write(machine, linuxUser, path, bodyOf(context), { mode, newMode, sha256 }));
    }),
  );
  app.delete(
    "/vms/:vm/files",
    on(async (context, machine, { linuxUser }) => {
      const wish = readQuery(context, filePath);
      if (!wish.ok) return failureAnswer(wish.failure);
      return emptyAnswer(await files.remove(machine, linuxUser, wish.value.path, context.req.raw.signal));
    }),
  );
  app.get(
    "/vms/:vm/files/status",
    on(async (context, machine, { linuxUser }) => {
      const wish = readQuery(context, filePath);
      return wish.ok ? jsonAnswer(await files.status(machine, linuxUser, wish.value.path)) : failureAnswer(wish.failure);
    }),
  );
  app.post(
    "/vms/:vm/files/directory",
    on(async (context, machine, { linuxUser }) => {
      const wish = readQuery(context, filePath);
      return wish.ok ? emptyAnswer(await files.makeDirectory(machine, linuxUser, wish.value.path)) : failureAnswer(wish.failure);
    }),
  );
  app.post(
    "/vms/:vm/files/watch",
    on(async (context, machine, admission) => {
      const wish = readQuery(context, filePath);
      if (!wish.ok) return failureAnswer(wish.failure);
      const events = await parts.watches.open(machine, admission.linuxUser, wish.value.path);
      if (!events.ok) return failureAnswer(events.failure);
      // Not awaited: a watch that sees nothing does not use the VM.
      void sendEvents(context.env.outgoing, events.value, traceHeader(context), {
        admission,
        live: parts.live(),
        onEvent: () => parts.idle.note(machine.vmId),
      });
      return RESPONSE_ALREADY_SENT;
    }),
  );
  app.post(
    "/vms/:vm/uploads",
    jsonLimit,
    on(async (context, machine, admission) => {
      const request = await readJson(context, uploadRequest);
      return request.ok
        ? jsonAnswer(await parts.uploads.begin(machine, uploaderOf(admission), request.value))
        : failureAnswer(request.failure);
    }),
  );
  app.get(
    "/vms/:vm/uploads/:id",
    on(async (context, machine, admission) =>
      jsonAnswer(await parts.uploads.status(machine, uploaderOf(admission), idOf(context))),
    ),
  );
  app.put(
    "/vms/:vm/uploads/:id",
    on(async (context, machine, admission) => {
      const wish = readQuery(context, uploadOffset);
      if (!wish.ok) return failureAnswer(wish.failure);
      const declared = context.req.header("content-length");
      const length = declared === undefined ? null : Number(declared);
      const piece = { offset: wish.value.offset, length, content: bodyOf(context) };
      return jsonAnswer(await parts.uploads.append(machine, uploaderOf(admission), idOf(context), piece));
    }),
  );
  app.post(
    "/vms/:vm/uploads/:id/commit",
    on(async (context, machine, admission) =>
      emptyAnswer(await parts.uploads.commit(machine, uploaderOf(admission), idOf(context))),
    ),
  );
  app.delete(
    "/vms/:vm/uploads/:id",
    on(async (context, machine, admission) =>
      emptyAnswer(await parts.uploads.discard(machine, uploaderOf(admission), idOf(context))),
    ),
  );
}

/** Guards a route by a `files` ticket and finds its machine. */
function forMachine(guarded: Guard, machines: Machines) {
  return (handler: FileHandler) =>
    guarded("files", async (context, vmId, admission) => {
      const machine = machines.find(vmId);
      return machine.ok ? handler(context, machine.value, admission) : failureAnswer(machine.failure);
    });
}

function uploaderOf({ claims, linuxUser }: Admission): Uploader {
  return { subject: claims.sub, linuxUser };
}

function idOf(context: HostContext): string {
  return context.req.param("id") ?? "";
}

/** The request itself, whose bytes stream. */
function bodyOf(context: HostContext): IncomingMessage {
  return context.env.incoming;
}

function traceHeader(context: HostContext): Record<string, string> {
  return { [TRACE_HEADER]: traceOf(context.req.header(TRACE_HEADER)) };
}

function jsonAnswer(result: Result<unknown>): Response {
  return result.ok ? Response.json(result.value) : failureAnswer(result.failure);
}

function emptyAnswer(result: Result<null>): Response {
  return result.ok ? Response.json({}) : failureAnswer(result.failure);
}
