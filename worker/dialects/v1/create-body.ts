import { z } from "zod";
import type { VmSpec } from "../../../durable-objects/vm-contract.ts";
import { PLAIN_VM } from "../../../durable-objects/vm-spec.ts";
import { explained } from "../../http/input.ts";
import { asksForNothing, whyRefused } from "./create-fields.ts";
import { HONOURED_FIELDS, type Layer, layer, mergeFiles, mergePorts } from "./create-layer.ts";

/** How deep `spec.snapshot.snapshot…` may nest. */
const MAX_LAYERS = 8;

/** Members that hold another layer of the same kind. */
const LAYERS: readonly string[] = ["template", "spec", "snapshot"];

/**
 * The body of `POST /v1/vms` (contract section 3.1) as a VM's specification, but for its firewall. A member that cannot be
 * honoured is refused by name rather than dropped, unless its value asks for nothing; `create-fields.ts` says which do.
 */
export const createBody = z.record(z.string(), z.unknown()).transform((body, context): VmSpec => {
  const layers: Layer[] = [];
  const visit = (members: Record<string, unknown>, path: string[]): void => {
    const read = layer.safeParse(members);
    if (read.success) layers.push(read.data);
    for (const { path: at, message } of read.error?.issues.flatMap(explained) ?? []) {
      context.addIssue({ code: "custom", message, path: [...path, ...at] });
    }
    for (const [name, value] of Object.entries(members)) {
      if (HONOURED_FIELDS.includes(name)) continue;
      if (LAYERS.includes(name) && isRecord(value) && path.length < MAX_LAYERS) visit(value, [...path, name]);
      else if (!asksForNothing(name, value)) {
        context.addIssue({ code: "custom", message: whyRefused(name), path: [...path, name] });
      }
    }
  };
  visit(body, []);
  return toSpec(layers);
});

const nested = layer.nullish();

/** The same for the API description: what is honoured, and where. */
export const shownCreateBody = layer.extend({ template: nested, spec: layer.extend({ snapshot: nested }).nullish() });

/** Lists of all layers are joined; of everything else the first that is found wins, the top of the body first. */
function toSpec(layers: readonly Layer[]): VmSpec {
  const first = <Name extends keyof Layer>(name: Name) =>
    layers.map((one) => one[name]).find((value) => value !== null && value !== undefined) ?? null;
  const [cpu, memory, storage] = [first("vcpuCount"), first("memSizeGb"), first("rootfsSizeGb")];
  return {
    ...PLAIN_VM,
    name: first("name"),
    users: layers.flatMap(({ users }) => users ?? []),
    groups: layers.flatMap(({ groups }) => groups ?? []),
    files: mergeFiles(layers),
    resources: {
      ...(cpu === null ? {} : { cpu }),
      ...(memory === null ? {} : { memory }),
      ...(storage === null ? {} : { storage }),
    },
    idleTimeoutSeconds: first("idleTimeoutSeconds"),
    activityThresholdBytes: first("activityThresholdBytes"),
    snapshotId: first("snapshotId"),
    ports: mergePorts(layers),
    autoDeleteSeconds: first("persistence")?.type === "ephemeral" ? 0 : null,
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
