import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { expectNothingLeft } from "./leftovers.ts";
import { RunningSystem, type SystemAccess } from "./running-system.ts";

declare module "vitest" {
  interface ProvidedContext {
    readonly system: SystemAccess;
  }
}

/** Starts one system for the whole run. Set POSTERN_TEST_KEEP to keep its home, logs included, for a look afterwards. */
export default async function startedSystem({ provide }: TestProject): Promise<() => Promise<void>> {
  const folder = mkdtempSync(join(tmpdir(), "postern-test-"));
  const home = join(realpathSync(folder), "home");
  const system = await RunningSystem.start({ home });
  provide("system", system.access);
  return async () => {
    const code = await system.stop();
    await expectNothingLeft(home);
    if (code !== 0) throw new Error(`the stopped system ended with exit status ${code}`);
    if (process.env.POSTERN_TEST_KEEP === undefined) rmSync(folder, { recursive: true });
  };
}
