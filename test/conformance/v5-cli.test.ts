import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { run } from "../system/command.ts";
import { newAccount, system } from "../system/fixture.ts";
import { deleteVmV5, keyClientV5 } from "../system/sdk-v5.ts";

const CLI = fileURLToPath(new URL("../../node_modules/freestyle-0.2/dist/cli/index.js", import.meta.url));

/** Runs the CLI of 0.2.17 with nothing of the caller's environment but what it needs to start. */
async function freestyle(apiKey: string | null, ...args: string[]) {
  const home = mkdtempSync(join(tmpdir(), "postern-cli-"));
  onTestFinished(() => rmSync(home, { recursive: true }));
  const env = { PATH: process.env.PATH, HOME: home, CI: "1", FREESTYLE_PROXY: system.apiUrl };
  const finished = await run(process.execPath, [CLI, ...args], {
    cwd: home,
    env: apiKey === null ? env : { ...env, FREESTYLE_API_KEY: apiKey },
  });
  return { code: finished.code, stdout: finished.stdout.toString("utf8"), stderr: finished.stderr };
}

test("the CLI makes a VM, lists, shows, renames, pauses, starts, runs commands in it and deletes it", async () => {
  const { apiKey } = await newAccount();
  const cli = async (...args: string[]) => {
    const { code, stdout, stderr } = await freestyle(apiKey, ...args);
    expect([args, code, stderr]).toEqual([args, 0, expect.any(String)]);
    return stdout;
  };
  const made = JSON.parse(await cli("vm", "create", "--slug", "dev", "--metadata", "team=a", "--output", "json")) as { id: string };
  onTestFinished(() => deleteVmV5(keyClientV5(apiKey), made.id));
  expect(await cli("vm", "list")).toContain("dev");
  expect(await cli("vm", "get", "dev")).toContain(made.id);
  await cli("vm", "update", "dev", "--display-name", "Dev box");
  expect(JSON.parse(await cli("vm", "get", made.id, "--output", "json"))).toMatchObject({
    displayName: "Dev box",
    metadata: { team: "a" },
  });
  await cli("vm", "pause", "dev");
  await cli("vm", "start", "dev");
  expect(await cli("vm", "exec", "dev", "--env", "A=1", "--", "sh", "-c", "echo $A $(id -un)")).toBe("1 root\n");
  const failed = await freestyle(apiKey, "vm", "exec", "dev", "--", "sh", "-c", "exit 7");
  expect(failed.code).toBe(7);
  const taken = await freestyle(apiKey, "vm", "create", "--slug", "dev", "--output", "json");
  expect(taken.code).not.toBe(0);
  expect(taken.stderr).toContain(made.id);
  await cli("vm", "delete", "dev");
  expect(JSON.parse(await cli("vm", "list", "--output", "json"))).toMatchObject({ totalCount: 0, vms: [] });
});

test("the CLI makes an identity, its token and its grant, and takes them away again", async () => {
  const { apiKey } = await newAccount();
  const client = keyClientV5(apiKey);
  const { vm } = await client.vms.create({ firewall: { rules: [{ action: "allow", source: {}, destination: { public: true } }] } });
  onTestFinished(() => deleteVmV5(client, vm.id));
  const cli = async (...args: string[]) => {
    const { code, stdout, stderr } = await freestyle(apiKey, ...args, "--output", "json");
    expect([args, code, stderr]).toEqual([args, 0, expect.any(String)]);
    return stdout;
  };
  const { id } = JSON.parse(await cli("identity", "create")) as { id: string };
  const token = JSON.parse(await cli("identity", "token", "create", id)) as { id: string; token: string };
  expect(token.token).toMatch(/^pst_/);
  await cli("identity", "permission", "grant", id, vm.id, "--allowed-linux-user", "alice");
  expect(JSON.parse(await cli("identity", "permission", "list", id))).toMatchObject([
    { vmId: vm.id, allowedLinuxUsers: ["alice"] },
  ]);
  await cli("identity", "permission", "update", id, vm.id);
  expect(JSON.parse(await cli("identity", "permission", "get", id, vm.id))).toMatchObject({ allowedLinuxUsers: null });
  await cli("identity", "permission", "revoke", id, vm.id);
  await cli("identity", "token", "revoke", id, token.id);
  await cli("identity", "delete", id);
  expect(JSON.parse(await cli("identity", "list"))).toMatchObject({ total: 0 });
});

test("a CLI without a credential fails and executes nothing", async () => {
  const { code, stdout } = await freestyle(null, "vm", "list");
  expect(code).not.toBe(0);
  expect(stdout).toBe("");
});
