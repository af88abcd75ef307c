import { randomBytes } from "node:crypto";
import { afterEach, expect, test } from "vitest";
import { run, until } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
afterEach(() => world.close());

test("the forwarder's own key exchanges in the middle of a transfer, beside those of client and VM, lose no byte", async () => {
  world = await openWorld({ env: { POSTERN_SSH_REKEY_BYTES: "1048576" } });
  const bytes = randomBytes(16_000_000);
  const args = world.ssh(`${world.vmId}:${world.token}`, "cat");
  const result = await run("ssh", ["-v", "-o", "RekeyLimit=3M", ...args], { input: bytes });
  expect(result.code).toBe(0);
  expect(result.stdout.equals(bytes)).toBe(true);
  expect(result.stderr.match(/SSH2_MSG_NEWKEYS received/g)?.length ?? 0).toBeGreaterThan(10);
});

test("new keys come by time, and a silent session is kept alive, without the VM hearing of it", async () => {
  const env = { POSTERN_SSH_REKEY_MS: "1000", POSTERN_SSH_KEEPALIVE_MS: "100" };
  world = await openWorld({ env });
  const args = world.ssh(`${world.vmId}:${world.token}`, "cat");
  const ssh = world.startSsh(["-vvv", ...args], { input: "open" });
  await until("it is logged in", () => ssh.stderr().includes("Sending command"));
  const heard = world.host.bytesFromVm;
  await until("it got new keys twice", () => (ssh.stderr().match(/SSH2_MSG_NEWKEYS received/g)?.length ?? 0) >= 3);
  expect(world.host.bytesFromVm - heard).toBeLessThan(2_000);
  ssh.child.stdin?.end("still here\n");
  const ended = await ssh.done;
  expect(ended.stdout.toString()).toBe("still here\n");
  expect(ended.code).toBe(0);
});

test("a client that asks again and again whether anybody is there is answered, and the VM hears nothing of it", async () => {
  world = await openWorld();
  const asking = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"];
  const ssh = world.startSsh(["-vvv", ...asking, ...world.ssh(`${world.vmId}:${world.token}`, "echo up; cat")], { input: "open" });
  await until("the session is live", () => ssh.stdout().includes("up"));
  const heard = world.host.bytesToVm;
  await until("it asked more often than may go unanswered", () => (ssh.stderr().match(/send packet: type 80/g)?.length ?? 0) >= 4);
  expect(world.host.bytesToVm).toBe(heard);
  ssh.child.stdin?.end("still here\n");
  expect(await ssh.done).toMatchObject({ code: 0, stdout: Buffer.from("up\nstill here\n") });
});

test("the host is told when somebody types at a terminal, and not of what a program sends on another channel", async () => {
  world = await openWorld({ env: { POSTERN_SSH_TYPED_NOTE_MS: "60000" } });
  const user = `${world.vmId}:${world.token}`;
  const program = world.startSsh(world.ssh(user, "cat"), { input: "open" });
  program.child.stdin?.write("by a program\n");
  await until("it came through", () => program.stdout().includes("by a program"));
  expect(world.host.typed).toBe(0);
  const person = world.startSsh(["-tt", ...world.ssh(user, "cat")], { input: "open" });
  for (const line of ["first", "second"]) {
    person.child.stdin?.write(`${line}\n`);
    await until("it came through", () => person.stdout().includes(line));
  }
  await until("the host was told", () => world.host.typed > 0);
  expect(world.host.typed).toBe(1);
  for (const { child } of [program, person]) child.kill();
});
