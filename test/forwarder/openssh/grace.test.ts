import { connect } from "node:net";
import { afterEach, expect, test } from "vitest";
import { run } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
afterEach(() => world.close());

function heardUntilClosed(port: number, said: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    let heard = "";
    socket.on("data", (chunk) => {
      heard += chunk.toString("latin1");
    });
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(heard));
    socket.write(said);
  });
}

test.each(["", "SSH-2.0-slow", "SSH-2.0-silent\r\n"])("who says only %j is dropped when the login grace is over", async (said) => {
  world = await openWorld({ env: { POSTERN_SSH_LOGIN_GRACE_MS: "300" } });
  await expect(heardUntilClosed(world.port, said)).resolves.toContain("SSH-2.0-OpenSSH_");
});

test("the login grace does not end a session that has logged in", async () => {
  world = await openWorld({ env: { POSTERN_SSH_LOGIN_GRACE_MS: "1500" } });
  const result = await world.exec("sleep 2; echo still here");
  expect(result.stdout.toString()).toBe("still here\n");
});

test("an edge slower than the login grace ends the login, not the forwarder", async () => {
  world = await openWorld({ env: { POSTERN_SSH_LOGIN_GRACE_MS: "700" } });
  let answer: () => void = () => undefined;
  world.edge.beforeTicket = new Promise((resolve) => {
    answer = resolve;
  });
  const result = await world.exec("true");
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("The login took too long.");
  answer();
  expect((await world.exec("true")).code).toBe(0);
});

test("connections beyond an address's share are dropped, and a freed place can be taken", async () => {
  world = await openWorld({ env: { POSTERN_SSH_UNAUTHENTICATED_PER_ADDRESS: "2" } });
  const idle = [connect(world.port, "127.0.0.1"), connect(world.port, "127.0.0.1")];
  await Promise.all(idle.map((socket) => new Promise((resolve) => socket.once("data", resolve))));
  const dropped = await run("ssh", world.ssh(`${world.vmId}:${world.token}`, "true"));
  expect(dropped.code).toBe(255);
  for (const socket of idle) {
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.end();
    socket.resume();
    await closed;
  }
  expect((await world.exec("true")).code).toBe(0);
});

test("logged-in sessions do not count as unauthenticated ones", async () => {
  world = await openWorld({ env: { POSTERN_SSH_UNAUTHENTICATED_PER_ADDRESS: "1" } });
  const first = world.startSsh(world.ssh(`${world.vmId}:${world.token}`, "echo up; cat"), { input: "open" });
  await new Promise<void>((resolve) => first.child.stdout?.once("data", () => resolve()));
  expect((await world.exec("true")).code).toBe(0);
  first.child.stdin?.end();
  expect((await first.done).code).toBe(0);
});
