import { setFlagsFromString } from "node:v8";
import { platformRandomBytes } from "../protocol/bytes.ts";
import { openCredential, type ServiceCredential } from "../service/credential.ts";
import { type Log, processLog } from "../service/log.ts";
import { SettingsError } from "../service/settings.ts";
import { type ForwarderState, openForwarderState } from "./host-keys.ts";
import { type Forwarder, startForwarder } from "./server.ts";
import { type ForwarderSettings, readForwarderSettings } from "./settings.ts";
import { Workers } from "./workers.ts";

const VERSION = "0.1.0";

/**
 * Size of the blocks that Node cuts small buffers from, in bytes. A session keeps a few of them for ever, each of which
 * would keep a block of the usual eight kilobytes.
 */
const BUFFER_POOL_BYTES = 512;

/**
 * Runs a forwarder until SIGTERM or SIGINT, then drains and resolves; a second signal cuts live sessions at once. When it
 * accepts logins it prints one line of JSON on standard output:
 * `{"ready":true,"address":...,"port":...,"metricsPort":...,"hostKeys":[...],"nextHostKeys":[...]}`.
 * Rejects with `SettingsError`, `JoinRefused` or a broken state folder.
 */
export async function runForwarder(env: NodeJS.ProcessEnv): Promise<void> {
  Buffer.poolSize = BUFFER_POOL_BYTES;
  // V8's young space would grow to tens of MiB when many log in at once, and keep them; packets' buffers are not in it.
  setFlagsFromString("--semi-space-growth-factor=1");
  const settings = readForwarderSettings(env);
  const state = await openForwarderState(settings.POSTERN_FORWARDER_STATE, platformRandomBytes);
  const { POSTERN_FORWARDER_WORKERS: workers, POSTERN_SSH_LISTEN: listen } = settings;
  if (workers === 1) return runOne(settings, state);
  if (listen.port === 0) throw new SettingsError("POSTERN_FORWARDER_WORKERS: several processes need a port that is named");
  return runSeveral(env, settings, workers);
}

async function runOne(settings: ForwarderSettings, state: ForwarderState): Promise<void> {
  const log = processLog("forwarder");
  const joining = new AbortController();
  let forwarder: Forwarder | null = null;
  const stopped = onSignals(async (first) => {
    log.info("stopping", { drain: first });
    joining.abort();
    await forwarder?.stop(first ? undefined : 0);
  });
  try {
    forwarder = await startForwarder({
      settings,
      state,
      credential: await openForwarderCredential(settings, log, joining.signal),
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
  const { address, port, metricsPort } = forwarder;
  const { publicHostKeys: hostKeys, nextPublicHostKeys: nextHostKeys } = state;
  process.stdout.write(`${JSON.stringify({ ready: true, address, port, metricsPort, hostKeys, nextHostKeys })}\n`);
  await stopped;
}

async function runSeveral(env: NodeJS.ProcessEnv, settings: ForwarderSettings, count: number): Promise<void> {
  const log = processLog("forwarder-workers");
  const workers = new Workers(env, log);
  const enrolling = new AbortController();
  const stopped = onSignals(() => {
    enrolling.abort();
    return workers.stop("SIGTERM");
  });
  try {
    // Once, before they start: a join token is good for one enrolment, and the workers are one service.
    await openForwarderCredential(settings, log, enrolling.signal);
    process.stdout.write(`${await workers.start(count)}\n`);
  } catch (error) {
    await workers.stop("SIGTERM");
    if (enrolling.signal.aborted) return;
    throw error;
  }
  await stopped;
}

function openForwarderCredential(settings: ForwarderSettings, log: Log, signal: AbortSignal): Promise<ServiceCredential> {
  return openCredential({
    stateDir: settings.POSTERN_FORWARDER_STATE,
    edgeUrl: settings.POSTERN_EDGE_URL,
    secretFile: settings.POSTERN_SERVICE_KEY_FILE,
    applicant: { kind: "forwarder" },
    clock: Date.now,
    randomBytes: platformRandomBytes,
    log,
    timeoutMs: settings.POSTERN_EDGE_TIMEOUT_MS,
    retryMs: settings.POSTERN_ENROL_RETRY_MS,
    signal,
  });
}

/** Resolves when `stop` has, which every SIGTERM and SIGINT calls. */
function onSignals(stop: (first: boolean) => Promise<void>): Promise<void> {
  return new Promise((resolve, reject) => {
    let first = true;
    const handle = () => {
      stop(first).then(resolve, reject);
      first = false;
    };
    process.on("SIGTERM", handle);
    process.on("SIGINT", handle);
  });
}
