import { z } from "zod";
import { readSettings, wholeNumber } from "../../service/settings.ts";
import { EDGE_SETTING_NAMES } from "../../worker/settings.ts";

export const startSettings = z.object({
  /** Port of the HTTP API. */
  PORT: wholeNumber(8787),
  /** Port of the SSH ingress. */
  SSH_PORT: wholeNumber(2222),
  /** Address that both listen on. */
  POSTERN_BIND: z.ipv4().default("127.0.0.1"),
  /** Networks that the edge may reach hosts on, CIDR, comma-separated. */
  POSTERN_HOST_NETWORKS: z.string().default("127.0.0.1/32"),
  /** How long the parts may take to become ready, in milliseconds; the first start builds the guest image. */
  POSTERN_READY_TIMEOUT_MS: wholeNumber(900_000, 1),
  /** How long the host and the forwarder may take to stop by themselves, in milliseconds, before they are killed. */
  POSTERN_STOP_TIMEOUT_MS: wholeNumber(30_000, 1),
  /** The same for the edge, which waits for idle connections of clients but has nothing to lose: its storage is transactional. */
  POSTERN_EDGE_STOP_TIMEOUT_MS: wholeNumber(1_000, 1),
  /** Between two looks for clients that left while the edge prepares their answer, in milliseconds; what they asked for is ended. */
  POSTERN_LEFT_CLIENTS_MS: wholeNumber(1_000, 1),
});

/** Settings of `postern start`. */
export type StartSettings = z.infer<typeof startSettings>;

export function readStartSettings(env: NodeJS.ProcessEnv): StartSettings {
  return readSettings(startSettings, env);
}

/** The settings of the edge that an environment changes. */
export function edgeVars(env: NodeJS.ProcessEnv): Record<string, string> {
  const changed = EDGE_SETTING_NAMES.flatMap((name) => {
    const value = env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(changed);
}
