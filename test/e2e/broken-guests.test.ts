import { expect, test } from "vitest";
import { expectRefusal, PACKAGE_46 } from "../system/sdk.ts";
import { sshSetting } from "../system/ssh-fixture.ts";

const setting = sshSetting();

test("a guest that eats its memory loses the process that did, and nothing else: it and others go on, and it needs no start", async () => {
  const { vm, ssh, root } = setting();
  await vm.exec("systemd-run --quiet --unit=bystander sleep 1000");
  const greedy = await vm.exec("tail /dev/zero");
  expect(greedy.statusCode).toBe(137);
  expect(await vm.exec("systemctl is-active bystander")).toMatchObject({ stdout: "active\n" });
  expect(await ssh.ssh(root, "echo in")).toMatchObject({ code: 0, stdout: Buffer.from("in\n") });
  expect(await vm.getInfo()).toMatchObject({ state: "running" });
});

test("a guest whose sshd was ended says so to every new login and how to get it back, and a stop brings it back with its disk", async () => {
  const { vm, ssh, vmId, token } = setting();
  await vm.exec("echo kept >/root/note; systemctl stop ssh.socket ssh; true");
  // The host's own connection of before goes on; this is a new one.
  const refused = await expectRefusal(PACKAGE_46, vm.user({ username: "bob" }).exec("true"), "UnavailableError");
  expect(JSON.stringify(refused)).toContain("stop the VM and start it again");
  const login = await ssh.ssh(`${vmId}+alice:${token}`, "true");
  expect(login.code).toBe(255);
  expect(login.stderr).toContain("stop the VM and start it again");
  await vm.stop();
  expect(await vm.exec("cat /root/note")).toMatchObject({ stdout: "kept\n" });
  expect(await ssh.ssh(`${vmId}+alice:${token}`, "id -un")).toMatchObject({ code: 0, stdout: Buffer.from("alice\n") });
});
