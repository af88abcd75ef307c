import { describe, expect, onTestFinished, test } from "vitest";
import { testIdentity, testVm, tokenClient } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { PACKAGE_46 } from "../system/sdk.ts";
import { sshSetting } from "../system/ssh-fixture.ts";

const setting = sshSetting();

describe.each(["suspend", "stop"] as const)("a VM put to sleep by %s", (sleep) => {
  test("is woken by ssh, and the command gets the input that was sent before it was awake", async () => {
    const { vm, ssh, root } = setting();
    await vm[sleep]();
    const answer = await ssh.ssh(root, "cat; exit 4", { input: "early input\n" });
    expect(answer).toMatchObject({ code: 4, stdout: Buffer.from("early input\n") });
    expect(await vm.getInfo()).toMatchObject({ state: "running" });
  });

  test("is woken by an exec and by a file read", async () => {
    const { vm, vmId, token } = setting();
    const byToken = tokenClient(PACKAGE_46, token).vms.ref({ vmId });
    await vm[sleep]();
    expect(await byToken.exec("echo awake")).toMatchObject({ stdout: "awake\n" });
    await vm[sleep]();
    expect(await byToken.fs.readTextFile("/etc/passwd")).toContain("alice");
  });

  test("is woken once by several ssh at the same time, and all get in", async () => {
    const { vm, ssh, root } = setting();
    await vm[sleep]();
    const answers = await Promise.all([1, 2, 3, 4, 5].map((index) => ssh.ssh(root, `echo ${index}`)));
    expect(answers.map(({ stdout }) => stdout.toString())).toEqual(["1\n", "2\n", "3\n", "4\n", "5\n"]);
  });

  test("is not woken by a login that is refused", async () => {
    const { vm, vmId, ssh } = setting();
    await vm[sleep]();
    expect(await ssh.ssh(`${vmId}:pst_${"a".repeat(46)}`, "id")).toMatchObject({ code: 255 });
    expect(await vm.getInfo()).toMatchObject({ state: sleep === "stop" ? "stopped" : "suspended" });
  });
});

/** A VM in which a command was run before it was put to sleep, and the user field that opens it. */
async function sleepingVm(command: string, sleep: "suspend" | "stop") {
  const { owner } = setting();
  const { vm, vmId } = await testVm(owner);
  const { token } = await testIdentity(owner, [{ vmId }]);
  expect(await vm.exec(command)).toMatchObject({ statusCode: 0 });
  await vm[sleep]();
  return { vm, user: `${vmId}:${token}` };
}

test("a login is over long before a VM that is slow to wake is there, and what is typed meanwhile arrives", async () => {
  const { vm, user } = await sleepingVm("sed -i '2i sleep 4' /usr/local/sbin/guest-init", "stop");
  const session = setting().ssh.sshInBackground(user, "cat; exit 6", ["-v"]);
  onTestFinished(() => session.kill());
  await until("the login is over", 15_000, () => (session.errors.includes("Authenticated to") ? true : undefined));
  expect((await vm.getInfo()).state).not.toBe("running");
  session.process.stdin.end("typed while it slept\n");
  expect(await session.finished).toMatchObject({ code: 6, stdout: Buffer.from("typed while it slept\n") });
  expect(await vm.getInfo()).toMatchObject({ state: "running" });
});

test.each([
  ["that the engine cannot start", "rm /usr/local/sbin/guest-init", "stop", "The VM could not be started."],
  ["whose sshd takes no keys of the moment", "rm /usr/local/bin/fetch-ssh-keys", "suspend", "The VM did not let root in."],
  [
    "that comes back with another host key",
    "cd /etc/ssh && rm ssh_host_ed25519_key* && ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key",
    "stop",
    "host key",
  ],
] as const)("a login into a VM %s ends with a readable reason and a code that is not 0", async (_what, breakIt, sleep, reason) => {
  const { user } = await sleepingVm(breakIt, sleep);
  const ended = await setting().ssh.ssh(user, "echo never");
  expect(ended).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
  expect(ended.stderr).toContain(reason);
});
