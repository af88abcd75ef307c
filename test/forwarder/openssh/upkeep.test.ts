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
