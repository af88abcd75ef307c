import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { testIdentity, testVm } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { sshSetting } from "../system/ssh-fixture.ts";

const setting = sshSetting();

test("an open SSH session lives through sleep, by call or by idleness: keepalives go on, and a typed line wakes the same shell", async () => {
  const { owner, ssh } = setting();
  const { vm, vmId } = await testVm(owner, { idleTimeoutSeconds: 3 });
  const { token } = await testIdentity(owner, [{ vmId }]);
  const asleep = () => until("it sleeps", 60_000, async () => ((await vm.getInfo()).state === "suspended" ? true : undefined));
  const journal = join(ssh.folder, "journal");
  const flags = ["-vvv", "-E", journal, "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"];
  const terminal = ssh.sshOnTerminal(`${vmId},${token}`, flags);
  onTestFinished(() => terminal.kill());
  await terminal.expect(/# /);
  terminal.type("kept=remembered; echo pid=$$.");
  const pid = (await terminal.expect(/pid=(\d+)\./))[1];
  const asked = () => readFileSync(journal, "utf8").match(/send packet: type 80/g)?.length ?? 0;
  for (const way of ["call", "idleness"]) {
    if (way === "call") await vm.suspend();
    await asleep();
    const before = asked();
    await until("it asked more often than may go unanswered", 30_000, () => (asked() >= before + 4 ? true : undefined));
    expect(await vm.getInfo()).toMatchObject({ state: "suspended" });
    terminal.type(`echo ${way}-$$-$kept.`);
    await terminal.expect(new RegExp(`${way}-${pid}-remembered\\.`));
  }
  terminal.type("exit 5");
  expect(await terminal.exitCode()).toBe(5);
});

test("a session whose VM sleeps is cut by a revocation, which wakes nothing, and by a stop, with the reason", async () => {
  const { owner, ssh } = setting();
  const { vm, vmId } = await testVm(owner);
  const [revoked, other] = [await testIdentity(owner, [{ vmId }]), await testIdentity(owner, [{ vmId }])];
  const [cut, stopped] = [revoked, other].map(({ token }) => {
    const session = ssh.sshInBackground(`${vmId}:${token}`, "echo live; exec cat");
    onTestFinished(() => session.kill());
    return session;
  });
  for (const session of [cut, stopped]) await until("it is live", 30_000, () => (session?.output === "live\n" ? true : undefined));
  await vm.suspend();
  await revoked.identity.tokens.revoke({ tokenId: revoked.tokenId });
  expect(await cut?.finished).toMatchObject({ code: 255, stderr: expect.stringContaining("Your access to this VM was revoked.") });
  expect(await vm.getInfo()).toMatchObject({ state: "suspended" });
  await vm.stop();
  expect(await stopped?.finished).toMatchObject({ code: 255, stderr: expect.stringContaining("The VM was stopped.") });
});
