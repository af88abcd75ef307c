import { EdgeProxy } from "../test/system/edge-proxy.ts";
import { startForwarderHere } from "../test/system/forwarder-here.ts";
import type { SystemAccess } from "../test/system/running-system.ts";

/** A second forwarder of a started system, in this process, whose way to the edge can be mistreated. */
export interface ProxiedForwarder {
  readonly proxy: EdgeProxy;
  readonly sshHost: string;
  readonly sshPort: number;
}

/** Runs `use` with one of these settings, which has joined the system's region. */
export async function withProxiedForwarder<T>(
  system: SystemAccess,
  env: Readonly<Record<string, string>>,
  use: (forwarder: ProxiedForwarder) => Promise<T>,
): Promise<T> {
  const proxy = await EdgeProxy.start(system.apiUrl);
  try {
    const { sshHost, sshPort, stop } = await startForwarderHere(system, { edgeUrl: proxy.url, env });
    try {
      return await use({ proxy, sshHost, sshPort });
    } finally {
      await stop();
    }
  } finally {
    await proxy.stop();
  }
}
