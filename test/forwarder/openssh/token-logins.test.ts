import { afterEach, expect, test } from "vitest";
import { DEFAULT_VERIFIER_LIMITS } from "../../../protocol/verifier.ts";
import { type Finished, type Running, run, until } from "../support/command.ts";
import { openWorld, type World, type WorldOptions } from "../support/world.ts";

let world: World;
afterEach(() => world.close());

async function opened(options: WorldOptions = {}): Promise<void> {
  world = await openWorld(options);
}

async function logIn(token = world.token): Promise<Finished> {
  return run("ssh", ["-o", "BatchMode=yes", ...world.ssh(`${world.vmId}:${token}`, "whoami")]);
}

function startLogin(): Running {
  return world.startSsh(["-v", "-o", "BatchMode=yes", ...world.ssh(`${world.vmId}:${world.token}`, "whoami")]);
}

const IN = { code: 0, stdout: Buffer.from("root\n") };
const asked = () => world.edge.ticketRequests.length;

test("a ticket opens nothing for another token, VM or Linux user", async () => {
  await opened();
  expect(await logIn()).toMatchObject(IN);
  expect((await logIn("pst_wrong")).code).toBe(255);
  const others = [`${"b".repeat(20)}:${world.token}`, `${world.vmId}+root:${world.token}`];
  for (const user of others) await run("ssh", ["-o", "BatchMode=yes", ...world.ssh(user, "whoami")]);
  expect(asked()).toBe(4);
});

test("a refusal is not remembered", async () => {
  await opened();
  world.grant.revoked = true;
  expect((await logIn()).code).toBe(255);
  world.grant.revoked = false;
  expect(await logIn()).toMatchObject(IN);
});

test("a revocation bites although a ticket is kept", async () => {
  await opened();
  expect(await logIn()).toMatchObject(IN);
  world.grant.revoked = true;
  world.edge.raiseFloor(world.grant);
  await until("the floor is known", async () => (await logIn()).code === 255);
  expect((await logIn()).stderr).toContain("The access token was not accepted.");
});

test("a floor that is not this token's costs one more question, and the token still opens", async () => {
  await opened();
  expect(await logIn()).toMatchObject(IN);
  world.edge.raiseFloor(world.grant);
  await until("the floor is known", async () => (await logIn()).code === 0 && asked() === 2);
  expect(await logIn()).toMatchObject(IN);
  expect(asked()).toBe(2);
});

test("while the feed is silent an old verdict is not reused", async () => {
  await opened({ verifierLimits: { ...DEFAULT_VERIFIER_LIMITS, feedSilenceMs: 300, silentReadAgeS: 2 } });
  expect(await logIn()).toMatchObject(IN);
  world.edge.feedSilent = true;
  await until("the edge is asked again", async () => {
    expect(await logIn()).toMatchObject(IN);
    return asked() === 2;
  });
});

test.each(["stale-epoch", "stale-authority", "vm-not-found", "host-unavailable"] as const)(
  "a kept ticket that the host refuses as %s is replaced, and the new one is kept",
  async (kind) => {
    await opened();
    expect(await logIn()).toMatchObject(IN);
    world.host.failures = [{ kind, message: "no" }];
    expect(await logIn()).toMatchObject(IN);
    expect(await logIn()).toMatchObject(IN);
    expect(world.edge.ticketRequests.map(({ fresh }) => fresh)).toEqual([false, true]);
    expect(new Set(world.host.tunnels.map(({ ticket }) => ticket)).size).toBe(2);
  },
);

test("a ticket that was just minted and leads to no VM is not asked for twice", async () => {
  await opened();
  world.host.failures = [{ kind: "vm-not-found", message: "The VM is not on this host." }];
  expect((await logIn()).stderr).toContain("The VM is not on this host.");
  expect(asked()).toBe(1);
});

test("one who leaves while the edge is asked takes nothing from the others", async () => {
  await opened();
  let answer: () => void = () => undefined;
  world.edge.beforeTicket = new Promise((resolve) => {
    answer = resolve;
  });
  const leaver = startLogin();
  await until("the edge was asked", () => asked() === 1);
  const stayer = startLogin();
  await until("the second one logs in", () => stayer.stderr().includes("SSH2_MSG_SERVICE_ACCEPT received"));
  leaver.child.kill("SIGKILL");
  await leaver.done;
  answer();
  expect(await stayer.done).toMatchObject(IN);
  expect(asked()).toBe(1);
});
