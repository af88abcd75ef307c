import { describe, expect, onTestFinished, test } from "vitest";
import { EdgeProxy } from "../system/edge-proxy.ts";
import { system, testIdentity, testVm, tokenClient } from "../system/fixture.ts";
import { type ForwarderHere, startForwarderHere } from "../system/forwarder-here.ts";
import { until } from "../system/poll.ts";
import { PACKAGE_46 } from "../system/sdk.ts";
import { SshClient } from "../system/ssh-client.ts";
import { sshSetting } from "../system/ssh-fixture.ts";
import { ssh2Client } from "../system/ssh2-client.ts";

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

describe("a VM that takes seconds to wake", () => {
  const SLOW_S = 4;
  const SLOW_START = `sed -i '2i sleep ${SLOW_S}' /usr/local/sbin/guest-init`;
  /** How soon a login is over once the edge has answered. */
  const LOGIN_MS = 100;

  /** Logs in, and answers how long that took from the edge's answer on, in milliseconds. */
  async function logIn(forwarder: ForwarderHere, edge: EdgeProxy, username: string): Promise<number> {
    await ssh2Client({ host: forwarder.sshHost, port: forwarder.sshPort, username });
    const done = performance.now();
    const asked = edge.asked.findLast(({ path }) => path === "/service/v1/ssh-tickets");
    return done - (asked?.answeredAt ?? expect.fail("the edge was not asked"));
  }

  test("keeps nobody waiting at the login, and gets what is typed meanwhile, by editors too that wait for no connection that long", async () => {
    const { vm, user } = await sleepingVm(SLOW_START, "stop");
    const edge = await EdgeProxy.start(system.apiUrl);
    onTestFinished(() => edge.stop());
    const forwarder = await startForwarderHere(system, { edgeUrl: edge.url, env: { POSTERN_TICKETS_KEPT: "0" } });
    onTestFinished(() => forwarder.stop());
    const ssh = new SshClient(forwarder);
    onTestFinished(() => ssh.close());
    const session = ssh.sshInBackground(user, "cat; exit 6", ["-v"]);
    const editor = ssh.sshInBackground(user, "bash", ["-v", "-T", "-o", `ConnectTimeout=${SLOW_S - 1}`]);
    for (const login of [session, editor]) {
      onTestFinished(() => login.kill());
      await until("the login is over", 15_000, () => (login.errors.includes("Authenticated to") ? true : undefined));
    }
    const taken: number[] = [];
    while (taken.length < 5) taken.push(await logIn(forwarder, edge, user));
    expect((await vm.getInfo()).state).not.toBe("running");
    // The quickest: what else runs on this machine is not the forwarder's doing.
    expect(Math.min(...taken)).toBeLessThan(LOGIN_MS);
    session.process.stdin.end("typed while it slept\n");
    editor.process.stdin.end("echo listeningOn==22==\n");
    expect(await session.finished).toMatchObject({ code: 6, stdout: Buffer.from("typed while it slept\n") });
    expect(await editor.finished).toMatchObject({ code: 0, stdout: Buffer.from("listeningOn==22==\n") });
    expect(await vm.getInfo()).toMatchObject({ state: "running" });
  });
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
