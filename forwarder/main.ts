import { platformRandomBytes } from "../protocol/bytes.ts";
import { processLog } from "../service/log.ts";
import { readSecretFile } from "../service/settings.ts";
import { openForwarderState } from "./host-keys.ts";
import { type Forwarder, startForwarder } from "./server.ts";
import { readForwarderSettings } from "./settings.ts";

const VERSION = "0.1.0";

/**
 * Runs a forwarder until SIGTERM or SIGINT, then drains and resolves; a second signal cuts live sessions at once. When it
 * accepts logins it prints one line of JSON on standard output: `{"ready":true,"address":...,"port":...,"hostKeys":[...],"nextHostKeys":[...]}`.
 * Rejects with `SettingsError`, `JoinRefused` or a broken state folder.
 */
export async function runForwarder(env: NodeJS.ProcessEnv): Promise<void> {
  const settings = readForwarderSettings(env);
  const log = processLog("forwarder");
  const joining = new AbortController();
  let forwarder: Forwarder | null = null;
  const stopped = new Promise<void>((resolve, reject) => {
    let signals = 0;
    const stop = () => {
      signals += 1;
      log.info("stopping", { drain: signals === 1 });
      joining.abort();
      if (forwarder === null) resolve();
      else forwarder.stop(signals === 1 ? undefined : 0).then(resolve, reject);
    };
    process.on("SIGTERM", stop);
    process.on("SIGINT", stop);
  });
  const state = await openForwarderState(settings.POSTERN_FORWARDER_STATE, platformRandomBytes);
  try {
    forwarder = await startForwarder({
      settings,
      state,
      serviceKey: readSecretFile(settings.POSTERN_SERVICE_KEY_FILE),
      version: VERSION,
      clock: Date.now,
      randomBytes: platformRandomBytes,
      random: Math.random,
      log,
      signal: joining.signal,
    });
  } catch (error) {
    if (joining.signal.aborted) return;
    throw error;
  }
  const { address, port } = forwarder;
  const { publicHostKeys: hostKeys, nextPublicHostKeys: nextHostKeys } = state;
  process.stdout.write(`${JSON.stringify({ ready: true, address, port, hostKeys, nextHostKeys })}\n`);
  await stopped;
}
