import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { z } from "zod";
import { removeLeftovers } from "../../host/drivers/leftovers.ts";
import { sha256Hex } from "../../protocol/bytes.ts";
import { ApiClient } from "../operator.ts";
import { SupervisedChild } from "./child.ts";
import { keepAccount, keepDemoVm } from "./demo.ts";
import { startEdge } from "./edge.ts";
import { claimHome, type Home, homeFromEnvironment, keepPrivateFile, makeHome, releaseHome, writePrivateFile } from "./home.ts";
import { endLeftConnections } from "./left-clients.ts";
import { choosePort } from "./ports.ts";
import { readyScreen } from "./screen.ts";
import { edgeVars, readStartSettings, requireRoot, type StartSettings } from "./settings.ts";
import { knownHosts, sshConfig } from "./ssh-config.ts";

const REGION = "local";
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** What a host or forwarder says on standard output while it starts. */
const childLine = z.union([
  z.object({ progress: z.string() }),
  z.object({ ready: z.literal(true), hostKeys: z.array(z.string()).optional() }),
]);

/**
 * Starts edge, forwarder and one host as child processes, makes the demo VM, writes `dev.json`, prints the screen, and
 * stays until `signal` aborts; then stops everything in the order in which nobody is cut off by surprise.
 */
export async function startSystem(env: NodeJS.ProcessEnv, signal: AbortSignal, say: (text: string) => void): Promise<void> {
  requireRoot(process.getuid?.());
  const settings = readStartSettings(env);
  const edgeSettings = edgeVars(env);
  const home = homeFromEnvironment(env);
  makeHome(home);
  claimHome(home);
  const running: SupervisedChild[] = [];
  try {
    await Promise.race([
      bringUp({ settings, edgeSettings, home, env }, running, say),
      aborted(signal),
      timeout(settings.POSTERN_READY_TIMEOUT_MS, home),
    ]);
    await aborted(signal);
  } finally {
    if (signal.aborted) say("Stopping …");
    // The forwarder first, so that people are told; then the host, which stops its guests; the edge last.
    for (const child of running.reverse()) await child.stop();
    // A host that was killed cannot have taken its guests down itself.
    await removeLeftovers(home.hostState).finally(() => releaseHome(home));
  }
}

/** What a start is made of. */
interface Start {
  readonly settings: StartSettings;
  readonly edgeSettings: Readonly<Record<string, string>>;
  readonly home: Home;
  readonly env: NodeJS.ProcessEnv;
}

async function bringUp(
  { settings, edgeSettings, home, env }: Start,
  running: SupervisedChild[],
  say: (text: string) => void,
): Promise<void> {
  const address = settings.POSTERN_BIND;
  const port = await choosePort(address, settings.PORT, "PORT");
  const sshPort = await choosePort(address, settings.SSH_PORT, "SSH_PORT");
  const apiUrl = `http://${address}:${port}`;

  say("Checking system packages …");
  await installSystemPackages(env.POSTERN_DRIVER === "qemu" ? ["--with-qemu"] : []);
  say("Starting the edge …");
  const onCrash = (name: string) => (detail: string) =>
    say(`The ${name} ended (${detail}); starting it again. See ${join(home.logs, `${name}.log`)}`);
  const operatorKey = keepPrivateFile(home.operatorKey, () => randomBytes(32).toString("base64url"));
  const edge = await startEdge({
    home,
    address,
    port,
    hostNetworks: settings.POSTERN_HOST_NETWORKS.split(","),
    vars: { ...edgeSettings, REGIONS: REGION, SSH_HOST: address, SSH_PORT: String(sshPort) },
    secrets: {
      TOKEN_MAC_KEYS: keepPrivateFile(home.macKeys, () => randomBytes(32).toString("base64url")),
      OPERATOR_KEY_SHA256: await sha256Hex(operatorKey),
    },
    stopTimeoutMs: settings.POSTERN_EDGE_STOP_TIMEOUT_MS,
    onCrash: onCrash("edge"),
  });
  running.push(edge);
  endLeftConnections(port, settings.POSTERN_LEFT_CLIENTS_MS, (text) => say(`Clients that leave are no longer noticed: ${text}`));

  const operator = new ApiClient(apiUrl, operatorKey);
  const { apiKey } = await keepAccount(home, operator);
  const serviceKey = await keepServiceKey(home, operator);

  say("Starting the host …");
  // One person's Ctrl-C: the sessions it ends are that person's own, so there is little to wait for.
  const common = { POSTERN_DRAIN_MS: "1000", ...env, POSTERN_EDGE_URL: apiUrl, POSTERN_SERVICE_KEY_FILE: home.serviceKey };
  const start = (name: "host" | "forwarder", own: NodeJS.ProcessEnv) =>
    startPart(name, { ...common, ...own }, settings, home, running, say, onCrash(name));
  await start("host", { POSTERN_HOST_STATE: home.hostState });
  say("Starting the SSH forwarder …");
  const forwarder = await start("forwarder", {
    POSTERN_FORWARDER_STATE: home.forwarderState,
    POSTERN_SSH_LISTEN: `${address}:${sshPort}`,
  });
  writeFileSync(home.knownHosts, knownHosts(address, sshPort, forwarder.hostKeys), { mode: 0o600 });
  writePrivateFile(home.sshConfig, sshConfig({ host: address, port: sshPort, knownHosts: home.knownHosts }));

  say("Waking the demo VM …");
  const vm = await keepDemoVm(home, apiUrl);
  const dev = { apiUrl, apiKey, sshHost: address, sshPort, serviceKey };
  writePrivateFile(home.devJson, `${JSON.stringify(dev, null, 2)}\n`);
  const { knownHosts: hostKeys, sshConfig: config, devJson } = home;
  say(readyScreen({ ...dev, vmId: vm.id, token: vm.token, knownHosts: hostKeys, sshConfig: config, devJson }));
}

async function installSystemPackages(options: readonly string[]): Promise<void> {
  try {
    await promisify(execFile)("bash", [here("../install-system-packages.sh"), ...options]);
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    throw new Error(stderr?.trim() || "system packages could not be installed", { cause: error });
  }
}

async function keepServiceKey(home: Home, operator: ApiClient): Promise<string> {
  try {
    return readFileSync(home.serviceKey, "utf8").trim();
  } catch {
    const made = await operator.request<{ serviceKey: string }>("POST", `/operator/v1/regions/${REGION}/service-keys`, {
      name: "npm start",
    });
    return keepPrivateFile(home.serviceKey, () => made.serviceKey);
  }
}

function startPart(
  name: "host" | "forwarder",
  env: NodeJS.ProcessEnv,
  settings: StartSettings,
  home: Home,
  running: SupervisedChild[],
  say: (text: string) => void,
  onCrash: (detail: string) => void,
): Promise<{ hostKeys: readonly string[] }> {
  return new Promise((resolve, reject) => {
    const logFile = join(home.logs, `${name}.log`);
    let ready = false;
    const child = new SupervisedChild({
      name,
      command: [process.execPath, here("../postern.ts"), `serve-${name}`],
      env,
      logFile,
      stopTimeoutMs: settings.POSTERN_STOP_TIMEOUT_MS,
      onLine: (line) => {
        const message = childLine.safeParse(parseJson(line));
        if (!message.success) return;
        if ("progress" in message.data) say(`  ${message.data.progress}`);
        else {
          ready = true;
          resolve({ hostKeys: message.data.hostKeys ?? [] });
        }
      },
      onCrash: (detail) => {
        if (ready) onCrash(detail);
        else reject(new Error(`the ${name} did not start (${detail}): ${lastLine(logFile)}`));
      },
    });
    running.push(child);
    child.start();
  });
}

function lastLine(file: string): string {
  return readFileSync(file, "utf8").trimEnd().split("\n").at(-1) ?? "";
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

function timeout(ms: number, home: Home): Promise<never> {
  return new Promise((_resolve, reject) => {
    setTimeout(() => reject(new Error(`Postern was not ready after ${ms / 1000} s. See the logs in ${home.logs}.`)), ms).unref();
  });
}
