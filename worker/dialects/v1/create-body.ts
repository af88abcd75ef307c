import { z } from "zod";
import type { VmSpec } from "../../../durable-objects/contract.ts";
import { type GuestGroup, type GuestUser, guestGroup, guestUser } from "../../../protocol/host-api.ts";
import { asksForNothing } from "./create-fields.ts";

/** How deep `spec.snapshot.snapshot…` may nest. */
const MAX_LAYERS = 8;

const label = z.string().max(256).nullish();
const users = z.array(z.preprocess(withoutNulls, guestUser)).max(256).nullish();
const groups = z.array(z.preprocess(withoutNulls, guestGroup)).max(256).nullish();

/** What is honoured, wherever it stands: at the top, in `template`, in `spec`, or in a `snapshot` nested in either. */
const honoured = z.object({ name: label, users, groups });

/** Members that hold another layer of the same kind. */
const LAYERS = ["template", "spec", "snapshot"] as const;

/**
 * The body of `POST /v1/vms` (contract section 3.1) as a VM's specification. A member that cannot be honoured is refused
 * by name rather than dropped, unless its value asks for nothing; `create-fields.ts` says which do.
 */
export const createBody = z.record(z.string(), z.unknown()).transform((body, context): VmSpec => {
  const found = { name: null as string | null, users: [] as GuestUser[], groups: [] as GuestGroup[] };
  const visit = (layer: Record<string, unknown>, path: string[]): void => {
    const read = honoured.safeParse(layer);
    if (!read.success) {
      for (const { path: at, message } of read.error.issues) context.addIssue({ code: "custom", message, path: [...path, ...at] });
      return;
    }
    found.name ??= read.data.name ?? null;
    found.users.push(...(read.data.users ?? []));
    found.groups.push(...(read.data.groups ?? []));
    for (const [name, value] of Object.entries(layer)) {
      if (name in honoured.shape) continue;
      if (isLayerName(name) && isRecord(value) && path.length < MAX_LAYERS) visit(value, [...path, name]);
      else if (!asksForNothing(name, value)) {
        context.addIssue({ code: "custom", message: "is not offered here: leave it out", path: [...path, name] });
      }
    }
  };
  visit(body, []);
  return found;
});

function isLayerName(name: string): boolean {
  return (LAYERS as readonly string[]).includes(name);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Every member of a user or group may be null, which means absent. */
function withoutNulls(value: unknown): unknown {
  return isRecord(value) ? Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null)) : value;
}
