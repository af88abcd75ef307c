import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openForwarderState } from "../forwarder/host-keys.ts";
import { startForwarder } from "../forwarder/server.ts";
import { readForwarderSettings } from "../forwarder/settings.ts";
import { platformRandomBytes } from "../protocol/bytes.ts";
import { openCredential } from "../service/credential.ts";
import { createLog } from "../service/log.ts";
import { FeedProxy } from "../test/chaos/feed-proxy.ts";
import type { SystemAccess } from "../test/system/running-system.ts";

/** A second forwarder of a started system, in this process, whose way to the edge can be mistreated. */
export interface ProxiedForwarder {
  readonly proxy: FeedProxy;
  readonly sshHost: string;
  readonly sshPort: number;
}

/** Runs `use` with one, which has joined the system's region. */
export async function withProxiedForwarder<T>(
  { apiUrl, serviceKey }: SystemAccess,
  use: (forwarder: ProxiedForwarder) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "postern-bench-forwarder-"));
  const secretFile = join(folder, "secret");
  writeFileSync(secretFile, serviceKey, { mode: 0o600 });
  const proxy = await FeedProxy.start(apiUrl);
  const log = createLog(() => undefined);
  const settings = readForwarderSettings({
    POSTERN_EDGE_URL: proxy.url,
    POSTERN_SERVICE_KEY_FILE: secretFile,
    POSTERN_FORWARDER_STATE: folder,
    POSTERN_SSH_LISTEN: "127.0.0.1:0",
  });
  const common = { clock: Date.now, randomBytes: platformRandomBytes, log };
  try {
    const credential = await openCredential({
      ...common,
      stateDir: folder,
      // What a service says of itself names the edge that it is for: not the proxy.
      edgeUrl: apiUrl,
      secretFile,
      applicant: { kind: "forwarder" },
      timeoutMs: settings.POSTERN_EDGE_TIMEOUT_MS,
      retryMs: settings.POSTERN_ENROL_RETRY_MS,
    });
    const state = await openForwarderState(folder, platformRandomBytes);
    const forwarder = await startForwarder({ ...common, settings, state, credential, version: "bench", random: Math.random });
    try {
      return await use({ proxy, sshHost: forwarder.address, sshPort: forwarder.port });
    } finally {
      await forwarder.stop(0);
    }
  } finally {
    await proxy.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
