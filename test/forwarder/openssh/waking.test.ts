import { afterEach, beforeEach, expect, test } from "vitest";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../../service/ssh-keys.ts";
import { start, until } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(() => world.close());

const login = () => `${world.vmId}:${world.token}`;

/** Holds the VM asleep; call the answer to wake it. */
function asleep(): () => void {
  let wake: () => void = () => undefined;
  world.host.waking = new Promise((resolve) => {
    wake = resolve;
  });
  return wake;
}

test("the login is done before the VM is awake, and what was typed meanwhile arrives", async () => {
  const wake = asleep();
  const ssh = start("ssh", ["-v", ...world.ssh(login(), "cat")], { input: "typed while it slept\n" });
  await until("the client is logged in", () => ssh.stderr().includes("Authenticated to"));
  expect(ssh.stdout()).toBe("");
  wake();
  const result = await ssh.done;
  expect(result.stdout.toString()).toBe("typed while it slept\n");
  expect(result.code).toBe(0);
});

test("a client that asks every second whether the server is alive waits as long as the VM takes to wake", async () => {
  const wake = asleep();
  const begun = Date.now();
  const alive = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"];
  const ssh = start("ssh", [...alive, ...world.ssh(login(), "cat")], { input: "typed while it slept\n" });
  await until("a client without an answer would have left", () => Date.now() - begun > 5_000);
  wake();
  expect(await ssh.done).toMatchObject({ code: 0, stdout: Buffer.from("typed while it slept\n") });
});

test("a client that gives up while the VM wakes takes the tunnel with it", async () => {
  asleep();
  const ssh = start("ssh", world.ssh(login(), "true"), { input: "open" });
  await until("the tunnel is asked for", () => world.host.openTunnels === 1);
  ssh.child.kill("SIGKILL");
  await until("the tunnel is gone", () => world.host.openTunnels === 0);
});

test("a VM that cannot wake ends the session with the host's reason on standard error", async () => {
  world.host.failures = [{ kind: "vm-start-failed", message: "The VM exited while it was starting." }];
  const result = await world.exec("echo never");
  expect(result.code).toBe(255);
  expect(result.stdout.toString()).toBe("");
  expect(result.stderr).toContain("The VM exited while it was starting.");
});

test("a forward without a session is told the reason too", async () => {
  world.host.failures = [{ kind: "no-capacity", message: "No room just now." }];
  const result = await start("ssh", ["-N", ...world.ssh(login())], { input: "open" }).done;
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("No room just now.");
});

test("a Linux user that the VM does not have is a readable refusal", async () => {
  world.host.failures = [{ kind: "linux-user-not-found", message: "There is no Linux user ghost in this VM." }];
  const result = await start("ssh", world.ssh(`${world.vmId}+ghost:${world.token}`, "true")).done;
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("There is no Linux user ghost in this VM.");
});

test("a VM that admits another key is a readable refusal", async () => {
  world.host.admitsKey = false;
  const result = await world.exec("true");
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("The VM did not let root in.");
});

test("a VM that shows another host key than its host vouches for is refused", async () => {
  world.host.hostKey = generateSshKeyPair(platformRandomBytes).publicKey;
  const result = await world.exec("echo never");
  expect(result.code).toBe(255);
  expect(result.stdout.toString()).toBe("");
  expect(result.stderr).toContain("The VM showed another host key");
});

test.each([null, "", "ssh-ed25519", "ssh-dss AAAA", "ssh-rsa AAAAC3NzaC1lZDI1NTE5"])(
  "a host that names %j as the VM's host key is not trusted",
  async (hostKey) => {
    world.host.hostKey = hostKey;
    const result = await world.exec("echo never");
    expect(result.code).toBe(255);
    expect(result.stdout.toString()).toBe("");
    expect(result.stderr).toContain("host key");
  },
);

test("a host that cannot be reached means try again", async () => {
  await world.host.stop();
  const result = await world.exec("true");
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("The VM's host cannot be reached just now.");
});

test.each(["stale-epoch", "stale-authority"] as const)("a ticket that the host calls %s is replaced once", async (kind) => {
  world.host.failures = [{ kind, message: "stale" }];
  const result = await world.exec("echo in");
  expect(result.stdout.toString()).toBe("in\n");
  expect(world.edge.ticketRequests.map((request) => request.fresh)).toEqual([false, true]);
  expect(new Set(world.host.tunnels.map((tunnel) => tunnel.ticket)).size).toBe(2);
});

test("a host that calls every ticket stale is asked twice, not for ever", async () => {
  const stale = { kind: "stale-epoch", message: "Still stale." } as const;
  world.host.failures = [stale, stale, stale];
  const result = await world.exec("true");
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("Still stale.");
  expect(world.host.tunnels).toHaveLength(2);
});

test("a token revoked between ticket and tunnel is refused", async () => {
  world.host.failures = [{ kind: "stale-epoch", message: "stale" }];
  world.edge.tamper = (claims) => {
    world.grant.revoked = true;
    return claims;
  };
  const result = await world.exec("echo never");
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("The access token was not accepted.");
});

test("a VM slower than the wake timeout ends the session with a reason", async () => {
  await world.close();
  world = await openWorld({ env: { POSTERN_WAKE_TIMEOUT_MS: "300" } });
  asleep();
  const result = await world.exec("true");
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("The VM did not wake in time.");
});

test("more input than the queue holds waits at the client and arrives whole", async () => {
  await world.close();
  world = await openWorld({ env: { POSTERN_WAKE_QUEUE_BYTES: "1", POSTERN_SPLICE_HIGH_WATER_BYTES: "1" } });
  const wake = asleep();
  const bytes = Buffer.alloc(3_000_000, "x");
  const ssh = start("ssh", ["-v", ...world.ssh(login(), "wc -c")], { input: bytes });
  await until("the client is logged in", () => ssh.stderr().includes("Authenticated to"));
  wake();
  expect((await ssh.done).stdout.toString().trim()).toBe("3000000");
});
