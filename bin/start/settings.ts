import { z } from "zod";
import { readSettings as readObjectSettings } from "../../durable-objects/settings.ts";
import { isVmDomain } from "../../protocol/vm-names.ts";
import { messageOf } from "../../service/message-of.ts";
import { portNumber, readSettings, SettingsError, wholeNumber } from "../../service/settings.ts";
import { EDGE_SETTING_NAMES, readSettings as readEdgeSettings } from "../../worker/settings.ts";

export const startSettings = z.object({
  /** Port of the HTTP API. */
  PORT: portNumber(8787),
  /** Port of the SSH ingress. */
  SSH_PORT: portNumber(2222),
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

/** Throws unless this user may make guests. `uid`: as `process.getuid` says it. */
export function requireRoot(uid: number | undefined): void {
  if (uid === 0) return;
  throw new Error(
    "this must be run as root: it installs packages, and guests have networks, mounts and firewall rules of their own",
  );
}

/** Reads them. Throws `SettingsError`, which names every bad one. */
export function readStartSettings(env: NodeJS.ProcessEnv): StartSettings {
  const settings = readSettings(startSettings, env);
  if (settings.PORT !== 0 && settings.PORT === settings.SSH_PORT) throw new SettingsError("PORT and SSH_PORT must differ");
  return settings;
}

/**
 * The settings of the edge that an environment changes. Throws `SettingsError` for what the edge would not run with: it reads them at
 * every request, so that a bad one would be seen as an edge that answers nothing.
 */
export function edgeVars(env: NodeJS.ProcessEnv): Record<string, string> {
  const changed = EDGE_SETTING_NAMES.flatMap((name) => {
    const value = env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  const vars = Object.fromEntries(changed);
  try {
    if (!isVmDomain(vars.VM_DOMAIN ?? "")) throw new Error("VM_DOMAIN: must be a domain name, such as vm.example.com, or empty");
    readEdgeSettings(vars);
    readObjectSettings(vars);
  } catch (error) {
    throw new SettingsError(messageOf(error));
  }
  return vars;
}
