import { once } from "node:events";
import { createReadStream, createWriteStream } from "node:fs";
import { chmod, open, rename, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { DriverError } from "../../driver.ts";
import type { Qmp } from "./qmp.ts";

const POLL_MS = 15;
/** Bytes a second; QEMU's own default is for networks. */
const BANDWIDTH = 16 * 1024 ** 3;
const progress = z.object({ status: z.string().optional(), "error-desc": z.string().optional() });

/** Whether memory whose file is shared, and so is there already, stays out of the stream; must be the same on both sides. */
const ignoring = (state: boolean) => ({ capabilities: [{ capability: "x-ignore-shared", state }] });

/** Where memory is until it is whole. */
export const unfinished = (file: string) => `${file}.new`;

/**
 * Writes a stopped machine's memory and devices to a file, which is whole and on the disk once it has its name. By a socket
 * rather than by a command of QEMU's, so that a QEMU never has to run anything.
 */
export async function saveMemory(qmp: Qmp, runDir: string, file: string, timeoutMs: number, ignoreShared = false): Promise<void> {
  const path = join(runDir, "out");
  const part = unfinished(file);
  await rm(path, { force: true });
  const server = createServer();
  server.listen(path);
  await once(server, "listening");
  try {
    await chmod(path, 0o666);
    await qmp.ask("migrate-set-parameters", { "max-bandwidth": BANDWIDTH });
    await qmp.ask("migrate-set-capabilities", ignoring(ignoreShared));
    const arrived = once(server, "connection", { signal: AbortSignal.timeout(timeoutMs) });
    await qmp.ask("migrate", { uri: `unix:${path}` });
    const [stream] = await arrived;
    stream.on("error", () => undefined);
    await pipeline(stream, createWriteStream(part, { mode: 0o600 }), { signal: AbortSignal.timeout(timeoutMs) });
    await untilCompleted(qmp, timeoutMs);
    const written = await open(part, "r+");
    await written.sync();
    await written.close();
    await rename(part, file);
  } finally {
    server.close();
    await rm(part, { force: true });
  }
}

/** Reads such a file into a QEMU that waits for it. */
export async function loadMemory(qmp: Qmp, runDir: string, file: string, timeoutMs: number, ignoreShared = false): Promise<void> {
  const path = join(runDir, "in");
  await rm(path, { force: true });
  await qmp.ask("migrate-set-capabilities", ignoring(ignoreShared));
  await qmp.ask("migrate-incoming", { uri: `unix:${path}` });
  const stream = connect(path);
  stream.on("error", () => undefined);
  const sent = pipeline(createReadStream(file, { highWaterMark: 1024 ** 2 }), stream, { signal: AbortSignal.timeout(timeoutMs) });
  // QEMU cuts the connection as soon as it has what it needs, so how the stream ended says nothing: QEMU is asked.
  await sent.catch(() => undefined);
  await untilCompleted(qmp, timeoutMs);
}

async function untilCompleted(qmp: Qmp, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const { status, "error-desc": why } = progress.parse(await qmp.ask("query-migrate"));
    if (status === "completed") return;
    if (status === "failed" || status === "cancelled") throw new DriverError("engine", `memory was not moved: ${why ?? status}`);
    if (performance.now() > deadline) throw new DriverError("engine", `memory was not moved in ${timeoutMs} ms`);
    await delay(POLL_MS);
  }
}
