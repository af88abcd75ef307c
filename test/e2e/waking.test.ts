import { describe, expect, test } from "vitest";
import { tokenClient } from "../system/fixture.ts";
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
