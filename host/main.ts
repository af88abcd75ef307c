import { platformRandomBytes } from "../protocol/bytes.ts";
import { processLog } from "../service/log.ts";
import { startHostAgent } from "./agent.ts";
import { loadDriver } from "./drivers/load.ts";
import { readHostSettings } from "./settings.ts";

/**
 * Runs a host agent until SIGTERM or SIGINT, then closes it and resolves. Writes JSON lines for a supervisor on standard
 * output: `{"progress":"…"}` while it starts and `{"ready":true,"url":"…"}` once it serves. Logs go to standard error.
 * Throws `SettingsError` for bad settings and whatever kept the agent from starting.
 */
export async function runHost(env: NodeJS.ProcessEnv): Promise<void> {
  const settings = readHostSettings(env);
  const log = processLog("host");
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stop.abort());
  const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);
  try {
    const agent = await startHostAgent({
      settings,
      driver: await loadDriver(settings, log, (progress) => say({ progress })),
      log,
      clock: Date.now,
      randomBytes: platformRandomBytes,
      progress: (progress) => say({ progress }),
      signal: stop.signal,
    });
    say({ ready: true, url: agent.url });
    await aborted(stop.signal);
    log.info("host stops");
    await agent.close();
  } catch (error) {
    // A start that was given up because it was told to is no failure.
    if (!stop.signal.aborted) throw error;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
