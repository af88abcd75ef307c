import { existsSync, rmSync } from "node:fs";
import { homeFromEnvironment, runningPid } from "./start/home.ts";

/** Deletes a home that `postern start` made: accounts, keys, logs, guests and their disks. Refuses while it runs. */
export async function resetHome(env: NodeJS.ProcessEnv, say: (text: string) => void): Promise<void> {
  const home = homeFromEnvironment(env);
  if (!existsSync(home.root)) {
    say(`There is nothing in ${home.root}.`);
    return;
  }
  if (!existsSync(home.operatorKey)) throw new Error(`${home.root} was not made by Postern, so it is left alone.`);
  const pid = runningPid(home);
  if (pid !== null) throw new Error(`Postern runs from ${home.root} (process ${pid}). Stop it first.`);
  const { removeLeftovers } = await import("../host/drivers/leftovers.ts");
  await removeLeftovers(home.hostState);
  rmSync(home.root, { recursive: true });
  say(`${home.root} is gone: the next start begins afresh.`);
}
