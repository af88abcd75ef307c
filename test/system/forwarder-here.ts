import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openForwarderState } from "../../forwarder/host-keys.ts";
import { startForwarder } from "../../forwarder/server.ts";
import { readForwarderSettings } from "../../forwarder/settings.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { openCredential } from "../../service/credential.ts";
import { createLog } from "../../service/log.ts";
import type { SystemAccess } from "./running-system.ts";

export interface ForwarderHereOptions {
  /** Where it finds the edge: the edge itself unless there is something in between. */
  readonly edgeUrl?: string;
  /** Settings, by their names in the environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** How much more time has passed for it than for everybody else, in milliseconds; none by default. */
  readonly aheadMs?: () => number;
}

type LogLine = Readonly<Record<string, unknown>>;

/** A forwarder of a started system in the test's own process, so that its time is the test's and its log at hand. */
export interface ForwarderHere {
  readonly sshHost: string;
  readonly sshPort: number;
  /** What it has logged so far. */
  readonly log: readonly LogLine[];
  stop(): Promise<void>;
}

/** Starts one with host keys of its own, beside the system's. */
export async function startForwarderHere(system: SystemAccess, options: ForwarderHereOptions = {}): Promise<ForwarderHere> {
  const { aheadMs = () => 0 } = options;
  const folder = mkdtempSync(join(tmpdir(), "postern-forwarder-here-"));
  const secretFile = join(folder, "service.key");
  writeFileSync(secretFile, system.serviceKey, { mode: 0o600 });
  const settings = readForwarderSettings({
    ...options.env,
    POSTERN_EDGE_URL: options.edgeUrl ?? system.apiUrl,
    POSTERN_SERVICE_KEY_FILE: secretFile,
    POSTERN_FORWARDER_STATE: join(folder, "state"),
    POSTERN_SSH_LISTEN: "127.0.0.1:0",
  });
  const lines: LogLine[] = [];
  const log = createLog((line) => lines.push(JSON.parse(line) as LogLine));
  const forwarder = await startForwarder({
    settings,
    state: await openForwarderState(settings.POSTERN_FORWARDER_STATE, platformRandomBytes),
    credential: await openCredential({
      stateDir: settings.POSTERN_FORWARDER_STATE,
      // What a service says of itself names the edge that it is for, not what is in between, and the edge's own time.
      edgeUrl: system.apiUrl,
      clock: Date.now,
      secretFile,
      applicant: { kind: "forwarder" },
      randomBytes: platformRandomBytes,
      log,
      timeoutMs: settings.POSTERN_EDGE_TIMEOUT_MS,
      retryMs: settings.POSTERN_ENROL_RETRY_MS,
    }),
    version: "test",
    clock: () => Date.now() + aheadMs(),
    monotonic: () => performance.now() + aheadMs(),
    randomBytes: platformRandomBytes,
    random: Math.random,
    log,
  });
  return {
    sshHost: forwarder.address,
    sshPort: forwarder.port,
    log: lines,
    stop: async () => {
      await forwarder.stop(0);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
