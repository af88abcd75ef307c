import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { SystemAccess } from "../test/system/running-system.ts";

const WORKER = fileURLToPath(new URL("../forwarder/worker.ts", import.meta.url));

const readyLine = z.object({ address: z.string(), port: z.int() });

/** Where a forwarder listens. */
export interface ForwarderAddress {
  readonly host: string;
  readonly port: number;
}

/** Runs `use` with one more forwarder of a started system's region, the same program in a process of its own. */
export async function withSecondForwarder<T>(
  { apiUrl, serviceKey }: SystemAccess,
  use: (forwarder: ForwarderAddress) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "postern-bench-forwarder-"));
  const secretFile = join(folder, "secret");
  writeFileSync(secretFile, serviceKey, { mode: 0o600 });
  const child = spawn(process.execPath, [WORKER], {
    env: {
      ...process.env,
      POSTERN_EDGE_URL: apiUrl,
      POSTERN_SERVICE_KEY_FILE: secretFile,
      POSTERN_FORWARDER_STATE: join(folder, "state"),
      POSTERN_SSH_LISTEN: "127.0.0.1:0",
    },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = once(child, "exit");
  try {
    const [line] = await Promise.race([once(createInterface(child.stdout), "line"), tooSoon(ended)]);
    const { address: host, port } = readyLine.parse(JSON.parse(String(line)));
    return await use({ host, port });
  } finally {
    child.kill("SIGTERM");
    child.kill("SIGTERM");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  }
}

async function tooSoon(ended: Promise<unknown>): Promise<never> {
  await ended;
  throw new Error("the second forwarder did not start");
}
