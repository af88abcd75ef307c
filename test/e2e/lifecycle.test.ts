import { mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { run } from "../system/command.ts";
import { keyClient, newAccount, system, testIdentity, testVm, tokenClient } from "../system/fixture.ts";
import { expectNothingLeft, takeStock } from "../system/leftovers.ts";
import { until } from "../system/poll.ts";
import { findDescendant } from "../system/processes.ts";
import { RunningSystem, transcriptFile } from "../system/running-system.ts";
import { expectRefusal, PACKAGE_46 } from "../system/sdk.ts";
import { SshClient } from "../system/ssh-client.ts";

/** Both systems share the machine with everything else that the tests run. */
const TIMEOUT_MS = 180_000;

let folder: string;
let second: RunningSystem;
beforeAll(async () => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "postern-second-")));
  second = await RunningSystem.start({ home: join(folder, "home") });
}, TIMEOUT_MS);
afterAll(async () => {
  await second.stop();
  rmSync(folder, { recursive: true });
}, TIMEOUT_MS);

test("two systems run side by side, and a credential of one is nothing to the other", async () => {
  const ownerHere = keyClient(PACKAGE_46, (await newAccount()).apiKey);
  const { vmId } = await testVm(ownerHere);
  const { token } = await testIdentity(ownerHere, [{ vmId }]);
  const there = second.access;
  const accountThere = await newAccount(there);
  expect((await keyClient(PACKAGE_46, accountThere.apiKey, there).vms.list()).vms).toEqual([]);

  expect(await tokenClient(PACKAGE_46, token).vms.ref({ vmId }).exec("id -un")).toMatchObject({ stdout: "root\n" });
  await expectRefusal(PACKAGE_46, tokenClient(PACKAGE_46, token, there).vms.ref({ vmId }).exec("id"), "UnauthorizedErrorError");
  await expectRefusal(PACKAGE_46, keyClient(PACKAGE_46, accountThere.apiKey).vms.list(), "UnauthorizedErrorError");
  const ssh = new SshClient(there);
  try {
    expect(await ssh.ssh(`${vmId}:${token}`, "id")).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
  } finally {
    ssh.close();
  }
});

test("the line on the screen opens a shell in the demo VM when pasted", async () => {
  const screen = readFileSync(transcriptFile(second.access.home), "utf8");
  const line = /^ *(ssh .*)$/m.exec(screen)?.[1] ?? expect.fail(`no ssh line on the screen:\n${screen}`);
  expect(screen).toContain(second.access.apiUrl);
  expect(screen).toContain(second.access.apiKey);
  const shell = await run("sh", ["-c", `${line} -o BatchMode=yes id -un`]);
  expect(shell, shell.stderr).toMatchObject({ code: 0, stdout: Buffer.from("root\n") });
});

test(
  "a stopped system leaves nothing behind, and started again it has its accounts, VMs, tokens and host keys",
  async () => {
    const { access } = second;
    const account = await newAccount(access);
    const owner = keyClient(PACKAGE_46, account.apiKey, access);
    const { vm, vmId } = await owner.vms.create({ users: [{ name: "alice" }] });
    const { token, identity } = await testIdentity(owner, [{ vmId, allowedUsers: ["alice"] }]);
    const revoked = await identity.tokens.create();
    await identity.tokens.revoke({ tokenId: revoked.tokenId });
    await vm.fs.writeTextFile("/home/alice/kept", "kept over a restart");
    const ssh = new SshClient(access);
    try {
      expect((await ssh.ssh(`${vmId}+alice:${token}`, "cat kept")).stdout.toString()).toBe("kept over a restart");

      // So that the search that finds nothing later is known to find something.
      for (const [kind, lines] of Object.entries(await takeStock(access.home))) expect(lines, kind).not.toEqual([]);
      expect(await second.stop()).toBe(0);
      await expectNothingLeft(access.home);
      second = await RunningSystem.start({ home: access.home, port: Number(new URL(access.apiUrl).port), sshPort: access.sshPort });
      expect(second.access).toMatchObject({ apiUrl: access.apiUrl, apiKey: access.apiKey, serviceKey: access.serviceKey });

      ssh.configure(access, "yes");
      const again = await ssh.ssh(`${vmId}+alice:${token}`, "cat kept");
      expect(again).toMatchObject({ code: 0, stdout: Buffer.from("kept over a restart") });
      expect((await owner.vms.list()).vms).toMatchObject([{ id: vmId, state: "running" }]);
      const restricted = tokenClient(PACKAGE_46, token, access).vms.ref({ vmId });
      await expectRefusal(PACKAGE_46, restricted.exec("id"), "VmAccessDeniedError");
      const dead = tokenClient(PACKAGE_46, revoked.token, access).vms.ref({ vmId });
      await expectRefusal(PACKAGE_46, dead.user({ username: "alice" }).exec("id"), "UnauthorizedErrorError");
      expect(await ssh.ssh(`${vmId}+alice:${revoked.token}`, "id")).toMatchObject({ code: 255 });
    } finally {
      ssh.close();
    }
  },
  TIMEOUT_MS,
);

test("while the whole edge stands still, a ticket that was minted before opens a shell, and a token is told to try again", async () => {
  const { access } = second;
  const owner = keyClient(PACKAGE_46, (await newAccount(access)).apiKey, access);
  const { vmId } = await testVm(owner);
  const { token } = await testIdentity(owner, [{ vmId }]);
  const ssh = new SshClient(access);
  const answer = await fetch(`${access.apiUrl}/v5/vms/${vmId}/ssh-ticket`, {
    method: "POST",
    headers: { "x-freestyle-identity-access-token": token, "content-type": "application/json" },
    body: "{}",
  });
  const { ticket, user } = (await answer.json()) as { ticket: string; user: string };
  const edge = findDescendant(access.pid, "--control-fd=3");
  process.kill(edge, "SIGSTOP");
  try {
    const terminal = ssh.sshOnTerminal(user, ["-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1"]);
    await terminal.expectSecretPrompt();
    terminal.type(ticket);
    await terminal.expect(/# /);
    terminal.type("exit 6");
    expect(await terminal.exitCode()).toBe(6);
    const byToken = await ssh.ssh(`${vmId}:${token}`, "id");
    expect(byToken).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
    expect(byToken.stderr).toContain("try again in a moment");
  } finally {
    process.kill(edge, "SIGCONT");
    ssh.close();
  }
  await until("the edge answers again", 30_000, async () => ((await owner.vms.list()).vms.length === 1 ? true : undefined));
});

test(
  "a part that dies comes back by itself: meanwhile callers are told to try later, and never that they are not allowed",
  async () => {
    const { access } = second;
    const owner = keyClient(PACKAGE_46, (await newAccount(access)).apiKey, access);
    const { vmId } = await testVm(owner);
    const { token } = await testIdentity(owner, [{ vmId }]);
    const byToken = tokenClient(PACKAGE_46, token, access).vms.ref({ vmId });
    expect(await byToken.exec("echo before > /root/note; cat /root/note")).toMatchObject({ stdout: "before\n" });
    const refusals: string[] = [];
    const back = (call: () => Promise<unknown>) =>
      until("it is back", 60_000, async () => {
        try {
          await call();
          return true;
        } catch (error) {
          refusals.push((error as { body?: { code?: string } }).body?.code ?? String(error));
          return undefined;
        }
      });

    const session = new SshClient(access, "yes");
    const live = session.sshInBackground(`${vmId}:${token}`, "echo live; exec sleep 600");
    await until("the session is live", 30_000, () => (live.output === "live\n" ? true : undefined));
    process.kill(findDescendant(access.pid, "serve-host"), "SIGKILL");
    expect((await live.finished).code).toBe(255);
    expect(live.errors).toContain("The VM's host is restarting or cannot be reached. Connect again in a moment.");
    session.close();
    await back(() => byToken.exec("true"));
    expect(refusals.length).toBeGreaterThan(0);
    expect(refusals.filter((code) => !["UNAVAILABLE", "SERVICE_UNAVAILABLE"].includes(code))).toEqual([]);
    expect(await byToken.exec("cat /root/note")).toMatchObject({ stdout: "before\n" });

    const ssh = new SshClient(access, "yes");
    try {
      process.kill(findDescendant(access.pid, "serve-forwarder"), "SIGKILL");
      const answer = await until("the SSH ingress is back", 60_000, async () => {
        const login = await ssh.ssh(`${vmId}:${token}`, "cat /root/note");
        return login.code === 0 ? login : undefined;
      });
      expect(answer.stdout.toString()).toBe("before\n");
    } finally {
      ssh.close();
    }
  },
  TIMEOUT_MS,
);

test("the system of all other tests did not notice", async () => {
  const owner = keyClient(PACKAGE_46, (await newAccount()).apiKey);
  const { vm } = await testVm(owner);
  expect(await vm.exec("id -un")).toMatchObject({ stdout: "root\n" });
  expect(system.apiUrl).not.toBe(second.access.apiUrl);
});
