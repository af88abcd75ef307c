import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { parseDestination } from "../../bin/ssh/access.ts";
import { edgeVars, readStartSettings, requireRoot } from "../../bin/start/settings.ts";
import { SettingsError } from "../../service/settings.ts";

const POSTERN = fileURLToPath(new URL("../../bin/postern.ts", import.meta.url));

/** A home that looks as `start` leaves it, so that `reset` would delete it. */
function leftHome(): string {
  const home = mkdtempSync(join(tmpdir(), "postern-home-"));
  onTestFinished(() => rmSync(home, { recursive: true, force: true }));
  writeFileSync(join(home, "operator.key"), "key\n");
  mkdirSync(join(home, "host"));
  return home;
}

function postern(home: string, ...args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const env = { PATH: process.env.PATH, POSTERN_HOME: home };
  return new Promise((resolve) => {
    execFile(process.execPath, [POSTERN, ...args], { env }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === "number" ? error.code : 0, stdout, stderr });
    });
  });
}

test.each([["--help"], ["-h"], ["help"], ["reset", "--help"], ["start", "-h"], ["doctor", "--help"], ["serve-host", "--help"]])(
  "postern %s %s prints how it is used and does nothing",
  async (...args) => {
    const home = leftHome();
    const { code, stdout, stderr } = await postern(home, ...args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^postern <command>/);
    expect(existsSync(join(home, "operator.key"))).toBe(true);
  },
);

test.each(["keys", "ssh", "ssh-proxy", "editor-urls", "ssh-relay", "host-keys"])(
  "postern %s --help prints how that is used",
  async (name) => {
    const { code, stdout, stderr } = await postern(leftHome(), name, "--help");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(new RegExp(`^postern ${name} `));
  },
);

test.each([
  ["reset", "all"],
  ["start", "--port=1"],
  ["doctor", "now"],
  ["host-keys", "turn"],
])("postern %s %s is refused, since it does not take that", async (name, word) => {
  const home = leftHome();
  const { code, stderr } = await postern(home, name, word);
  expect(code).toBe(2);
  expect(stderr).toContain(`postern ${name} does not take this: ${word}`);
  expect(existsSync(join(home, "operator.key"))).toBe(true);
});

test("a command that needs a running system says that none runs, and what else can be done", async () => {
  const home = leftHome();
  const { code, stderr } = await postern(home, "keys", "account", "me");
  expect(code).toBe(1);
  expect(stderr).toContain(`no system runs from ${home}: start it, or name the edge by --url`);
});

test("a command whose edge gives no answer names the edge", async () => {
  const { code, stderr } = await postern(leftHome(), "keys", "account", "me", "--url", "http://127.0.0.1:2");
  expect(code).toBe(1);
  expect(stderr).toContain("http://127.0.0.1:2 gives no answer: ECONNREFUSED");
});

test("a VM is written as its id or a host name that begins with it, with one Linux user at most", () => {
  const vmId = "a".repeat(20);
  expect(parseDestination(vmId)).toEqual({ vmId, linuxUser: null });
  expect(parseDestination(`${vmId}+dev.example.com`)).toEqual({ vmId, linuxUser: "dev" });
  for (const wrong of ["x", `${vmId}+`, `${vmId}+a+b`, `${vmId}+-oProxyCommand=x`, `${vmId}+Root`]) {
    expect(() => parseDestination(wrong), wrong).toThrow(`"${wrong}" names no`);
  }
});

test.each([
  [{ PORT: "80x" }, "PORT: must be a whole number"],
  [{ PORT: "80.5" }, "PORT: must be a whole number"],
  [{ PORT: "70000", SSH_PORT: "-1" }, /PORT: Too big.*<=65535; SSH_PORT: Too small/],
  [{ PORT: "99", SSH_PORT: "99" }, "PORT and SSH_PORT must differ"],
])("start refuses %o by name before it makes anything", (env, message) => {
  expect(() => readStartSettings(env)).toThrow(SettingsError);
  expect(() => readStartSettings(env)).toThrow(message);
});

test.each([
  [{ MAX_JSON_BYTES: "lots" }, "MAX_JSON_BYTES: "],
  [{ HOST_TIMEOUT_MS: "1" }, "HOST_TIMEOUT_MS must exceed EXEC_MAX_TIMEOUT_MS"],
  [{ MAX_VMS_PER_ACCOUNT: "0" }, "MAX_VMS_PER_ACCOUNT"],
  [{ VM_DOMAIN: "%%%" }, "VM_DOMAIN: must be a domain name"],
  [{ VM_DOMAIN: ".localhost" }, "VM_DOMAIN: must be a domain name"],
])("start refuses the edge's setting %o by name, instead of starting an edge that answers nothing", (env, message) => {
  expect(() => edgeVars(env)).toThrow(SettingsError);
  expect(() => edgeVars(env)).toThrow(message);
});

test("settings of the edge that are empty are as if they were not there", () => {
  expect(edgeVars({ MAX_JSON_BYTES: "", VM_DOMAIN: "", REGIONS: "x" })).toEqual({ MAX_JSON_BYTES: "", VM_DOMAIN: "" });
});

test("start says that it must be run as root, before it makes anything", () => {
  expect(() => requireRoot(65_534)).toThrow("must be run as root");
  expect(() => requireRoot(0)).not.toThrow();
});

test("both ports may be any free one", () => {
  expect(readStartSettings({ PORT: "0", SSH_PORT: "0" })).toMatchObject({ PORT: 0, SSH_PORT: 0 });
});
