import { type ZodType, z } from "zod";
import {
  type GuestFile,
  guestFile,
  guestGroup,
  guestUser,
  machineResources,
  type PublicPort,
  publicPort,
} from "../../../protocol/host-api.ts";
import { isSnapshotId } from "../../../protocol/ids.ts";
import { encodeBase64 } from "../../http/base64.ts";
import { HONOURED, type MachineWish, NOT_OFFERED } from "../../services/honoured.ts";

const MIB_PER_GB = 1024;

/** A member that only the VM's host can grant. */
function wish<T>(name: MachineWish, schema: ZodType<T>) {
  return schema.nullish().refine((value) => value === null || value === undefined || HONOURED[name], NOT_OFFERED);
}

/** Whole gigabytes as the mebibytes of one of a machine's sizes. */
function gigabytes(size: "memory" | "storage") {
  const mebibytes = z
    .int()
    .positive()
    .transform((count) => count * MIB_PER_GB)
    .pipe(machineResources.shape[size].unwrap());
  return wish("resources", mebibytes);
}

const additionalFile = z
  .strictObject({
    content: z.string(),
    encoding: z.enum(["utf-8", "utf8", "base64"]).nullish(),
    executable: z.boolean().nullish(),
  })
  .transform(({ content, encoding, executable }) => ({
    content: encoding === "base64" ? content : encodeBase64(new TextEncoder().encode(content)),
    executable: executable ?? false,
  }));

const additionalFiles = z
  .record(z.string(), additionalFile)
  .refine((files) => Object.keys(files).length === 0 || HONOURED.files, NOT_OFFERED)
  .transform((files): z.input<typeof guestFile>[] => Object.entries(files).map(([path, file]) => ({ path, ...file })))
  .pipe(z.array(guestFile))
  .nullish();

/** How long a VM stays. An ephemeral one that goes when it is suspended could not be told from one that merely idles. */
const persistence = z
  .union(
    [
      z.strictObject({ type: z.literal("persistent") }),
      z.strictObject({ type: z.literal("sticky"), priority: z.int().min(0).max(10).nullish() }),
      z.strictObject({ type: z.literal("ephemeral"), deleteEvent: z.literal("OnStop") }),
    ],
    "is not offered here but as persistent, sticky, or ephemeral with the deleteEvent OnStop",
  )
  .nullish();

/** UDP cannot come in over HTTP. */
const openPort = publicPort.extend({ protocol: z.literal("tcp", "is offered as tcp only").nullish() });

/** What is honoured, wherever it stands: at the top, in `template`, in `spec`, or in a `snapshot` nested in either. */
export const layer = z.object({
  name: z.string().max(256).nullish(),
  users: z.array(z.preprocess(withoutNulls, guestUser)).max(256).nullish(),
  groups: z.array(z.preprocess(withoutNulls, guestGroup)).max(256).nullish(),
  additionalFiles,
  vcpuCount: wish("resources", machineResources.shape.cpu.unwrap()),
  memSizeGb: gigabytes("memory"),
  rootfsSizeGb: gigabytes("storage"),
  idleTimeoutSeconds: wish("idleTimeoutSeconds", z.int().positive()),
  activityThresholdBytes: wish("activityThresholdBytes", z.int().positive()),
  snapshotId: wish("snapshotId", z.string().refine(isSnapshotId, "must be a snapshot's id")),
  ports: z.array(openPort).max(2).nullish(),
  persistence,
});

export type Layer = z.output<typeof layer>;

/** Names of everything that a layer may hold and that is honoured. */
export const HONOURED_FIELDS = Object.keys(layer.shape);

/** A file that two layers name is the first one's. */
export function mergeFiles(layers: readonly Layer[]): GuestFile[] {
  const files = new Map<string, GuestFile>();
  for (const file of layers.flatMap((one) => one.additionalFiles ?? [])) {
    if (!files.has(file.path)) files.set(file.path, file);
  }
  return [...files.values()];
}

/** Of two layers that name one port the first decides. */
export function mergePorts(layers: readonly Layer[]): PublicPort[] {
  const ports = new Map<number, PublicPort>();
  for (const { port, targetPort } of layers.flatMap((one) => one.ports ?? [])) {
    if (!ports.has(port)) ports.set(port, { port, targetPort });
  }
  return [...ports.values()];
}

/** Every member of a user or group may be null, which means absent. */
function withoutNulls(value: unknown): unknown {
  const isRecord = typeof value === "object" && value !== null && !Array.isArray(value);
  return isRecord ? Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null)) : value;
}
