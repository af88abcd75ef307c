import { z } from "zod";
import { hostEnvironment } from "../../host/settings.ts";
import { CLOCK_TOLERANCE_S } from "../../protocol/ticket.ts";
import { wholeNumber } from "../../service/settings.ts";

const GIB = 1024 ** 3;

/** Settings of `postern doctor`, by the name of their environment variable; those of the host agent mean the same here. */
export const doctorSettings = z.object({
  /** Least room for guests' disks that is no problem, bytes; under five times that it is a warning. */
  POSTERN_DOCTOR_DISK_BYTES: wholeNumber(2 * GIB, 1),
  /** How far the host's clock may be from the edge's. A minute off, the host cannot sign on. */
  POSTERN_DOCTOR_CLOCK_MS: wholeNumber(CLOCK_TOLERANCE_S * 1_000, 1),
  /** Longest wait for the edge. */
  POSTERN_DOCTOR_EDGE_MS: wholeNumber(5_000, 1),
});

/** Settings of the host agent that are looked at; the doctor says what is missing instead of refusing to look. */
export const examinedSettings = z.object({
  POSTERN_EDGE_URL: hostEnvironment.shape.POSTERN_EDGE_URL.optional(),
  POSTERN_HOST_STATE: hostEnvironment.shape.POSTERN_HOST_STATE.optional(),
  POSTERN_SERVICE_KEY_FILE: hostEnvironment.shape.POSTERN_SERVICE_KEY_FILE.optional(),
  POSTERN_CACHE: hostEnvironment.shape.POSTERN_CACHE,
  POSTERN_DRIVER: hostEnvironment.shape.POSTERN_DRIVER,
  POSTERN_CONTAINER_USER_NAMESPACES: hostEnvironment.shape.POSTERN_CONTAINER_USER_NAMESPACES,
  POSTERN_QEMU_DISK_GIB: hostEnvironment.shape.POSTERN_QEMU_DISK_GIB,
  POSTERN_QEMU_PROBE_MS: hostEnvironment.shape.POSTERN_QEMU_PROBE_MS,
});

export type DoctorSettings = Readonly<z.infer<typeof doctorSettings> & z.infer<typeof examinedSettings>>;
