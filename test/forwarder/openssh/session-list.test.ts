import { afterEach, beforeEach, expect, test } from "vitest";
import { until } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ env: { POSTERN_SESSION_REPORT_MS: "1" } });
});
afterEach(() => world.close());

async function connected(count: number): Promise<void> {
  await until(`${count} sessions are known`, () => world.edge.sshSessions.size === count);
}

test("the region hears of a session when it begins and when it ends, by the id that the log has", async () => {
  const ssh = world.startSsh(world.ssh(`${world.vmId}:${world.token}`, "cat"), { input: "open" });
  await connected(1);
  const [session] = world.edge.sshSessions.values();
  expect(session).toMatchObject({ account: world.edge.account, vm: world.vmId, user: "root", address: "127.0.0.1" });
  expect(session?.sub).toBe(world.grant.subject);
  expect(world.log.join("")).toContain(`"session":"${session?.id}"`);
  ssh.child.stdin?.end();
  expect((await ssh.done).code).toBe(0);
  await connected(0);
});

test("a session that its account closes ends with a readable reason, and the others go on", async () => {
  const start = () => world.startSsh(world.ssh(`${world.vmId}:${world.token}`, "cat"), { input: "open" });
  const first = start();
  await connected(1);
  const [closed] = world.edge.sshSessions.keys();
  const second = start();
  await connected(2);
  world.edge.push({ type: "close-ssh-session", id: closed ?? "" });
  const ended = await first.done;
  expect(ended.code).toBe(255);
  expect(ended.stderr).toContain("This session was closed by its account.");
  second.child.stdin?.end("still here\n");
  expect((await second.done).stdout.toString()).toBe("still here\n");
});

test("after a break of the feed the region is told every session again", async () => {
  const ssh = world.startSsh(world.ssh(`${world.vmId}:${world.token}`, "cat"), { input: "open" });
  await connected(1);
  world.edge.sshSessions.clear();
  world.edge.breakFeeds();
  await connected(1);
  ssh.child.stdin?.end();
  await ssh.done;
});

test("a session id that is unknown is ignored", async () => {
  world.edge.push({ type: "close-ssh-session", id: "a".repeat(16) });
  expect((await world.exec("echo on")).stdout.toString()).toBe("on\n");
});
