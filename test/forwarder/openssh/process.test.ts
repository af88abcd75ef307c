import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { z } from "zod";
import { freePort } from "../../system/ports.ts";
import { run, until } from "../support/command.ts";
import { FakeEdge } from "../support/fake-edge.ts";

const readyLine = z.object({ ready: z.literal(true), address: z.string(), port: z.int(), hostKeys: z.array(z.string()) });
const MAIN = fileURLToPath(new URL("../../../forwarder/main.ts", import.meta.url));

let folder: string;
let edge: FakeEdge;
let started: ChildProcess[];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "postern-process-"));
  edge = new FakeEdge();
  await edge.start();
  started = [];
  writeFileSync(join(folder, "key"), `${edge.serviceKey}\n`, { mode: 0o600 });
});
afterEach(async () => {
  for (const child of started) child.kill("SIGKILL");
  await edge.stop();
  rmSync(folder, { recursive: true, force: true });
});

function launch(env: Record<string, string> = {}): ChildProcess {
  const script = `const { runForwarder } = await import(${JSON.stringify(MAIN)}); await runForwarder(process.env);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    env: {
      ...process.env,
      POSTERN_EDGE_URL: edge.url,
      POSTERN_SERVICE_KEY_FILE: join(folder, "key"),
      POSTERN_FORWARDER_STATE: join(folder, "state"),
      POSTERN_SSH_LISTEN: "127.0.0.1:0",
      ...env,
    },
    stdio: "pipe",
  });
  child.stderr?.resume();
  started.push(child);
  return child;
}

async function ready(child: ChildProcess): Promise<z.infer<typeof readyLine>> {
  if (child.stdout === null) throw new Error("no output");
  const [line] = await once(createInterface(child.stdout), "line");
  return readyLine.parse(JSON.parse(String(line)));
}

async function exitCode(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null) return child.exitCode;
  const [code] = await once(child, "exit");
  return code;
}

test("it says on one line that it is ready, shows the host keys it named, and SIGTERM ends it with 0", async () => {
  const child = launch();
  const { address, port, hostKeys } = await ready(child);
  const scanned = await run("ssh-keyscan", ["-T", "10", "-p", String(port), address]);
  const shown = scanned.stdout
    .toString()
    .split("\n")
    .filter((line) => line !== "");
  expect(shown.map((line) => line.split(" ").slice(1).join(" ")).sort()).toEqual([...hostKeys].sort());
  child.kill("SIGTERM");
  expect(await exitCode(child)).toBe(0);
});

test("its host keys are the same after a restart", async () => {
  const first = launch();
  const before = await ready(first);
  first.kill("SIGTERM");
  await exitCode(first);
  const second = launch();
  expect((await ready(second)).hostKeys).toEqual(before.hostKeys);
});

test("SIGTERM ends it with 0 while it waits for an edge that is down", async () => {
  await edge.stop();
  const child = launch();
  if (child.stderr === null) throw new Error("no log");
  await once(child.stderr, "data");
  child.kill("SIGTERM");
  expect(await exitCode(child)).toBe(0);
});

test("a missing setting, and a state folder that cannot be one, stop it with a code that is not 0", async () => {
  expect(await exitCode(launch({ POSTERN_EDGE_URL: "" }))).not.toBe(0);
  expect(await exitCode(launch({ POSTERN_FORWARDER_STATE: join(folder, "key") }))).not.toBe(0);
});

test("several processes share one port, each serves its own metrics, and SIGTERM ends all of them", async () => {
  const [port, metrics] = [await freePort(), await freePort(3)];
  const env = {
    POSTERN_FORWARDER_WORKERS: "3",
    POSTERN_SSH_LISTEN: `127.0.0.1:${port}`,
    POSTERN_METRICS_LISTEN: `127.0.0.1:${metrics}`,
  };
  const child = launch(env);
  const { hostKeys } = await ready(child);
  expect(edge.forwarders.size).toBe(3);
  for (let tried = 0; tried < 6; tried += 1) {
    const scanned = await run("ssh-keyscan", ["-T", "10", "-t", "ed25519", "-p", String(port), "127.0.0.1"]);
    expect(hostKeys).toContain(scanned.stdout.toString().trim().split(" ").slice(1).join(" "));
  }
  for (const worker of [0, 1, 2]) expect((await fetch(`http://127.0.0.1:${metrics + worker}/metrics`)).status).toBe(200);
  child.kill("SIGTERM");
  expect(await exitCode(child)).toBe(0);
  await until("they are all gone", () => edge.forwarders.size === 0);
});

test("workers end when the process that started them is killed", async () => {
  const child = launch({ POSTERN_FORWARDER_WORKERS: "2", POSTERN_SSH_LISTEN: `127.0.0.1:${await freePort()}` });
  await ready(child);
  expect(edge.forwarders.size).toBe(2);
  child.kill("SIGKILL");
  await until("they are all gone", () => edge.forwarders.size === 0);
});

test("several processes on no particular port are refused by the setting's name", async () => {
  const child = launch({ POSTERN_FORWARDER_WORKERS: "2" });
  let stderr = "";
  child.stderr?.on("data", (chunk) => {
    stderr += String(chunk);
  });
  expect(await exitCode(child)).not.toBe(0);
  await until("the log is read", () => stderr.includes("POSTERN_FORWARDER_WORKERS"));
});

test("a second process takes the port while the first one drains, and both keep their place in the region", async () => {
  const env = { POSTERN_SSH_LISTEN: `127.0.0.1:${await freePort()}`, POSTERN_SSH_REUSE_PORT: "1" };
  const first = launch(env);
  const { port } = await ready(first);
  const second = launch(env);
  expect(await ready(second)).toMatchObject({ port });
  expect(edge.forwarders.size).toBe(2);
  first.kill("SIGTERM");
  expect(await exitCode(first)).toBe(0);
  const scanned = await run("ssh-keyscan", ["-T", "10", "-t", "ed25519", "-p", String(port), "127.0.0.1"]);
  expect(scanned.stdout.toString()).toContain("ssh-ed25519");
  expect(edge.forwarders.size).toBe(1);
});

test("without that setting a second process on the same port is refused", async () => {
  const env = { POSTERN_SSH_LISTEN: `127.0.0.1:${await freePort()}` };
  await ready(launch(env));
  expect(await exitCode(launch(env))).not.toBe(0);
});
