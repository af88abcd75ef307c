import { connect, createServer } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run, until } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

const CLIENT = "192.0.2.7";
const HEADER = Buffer.concat([
  Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1"),
  Buffer.of(0x21, 0x11, 0, 12, 192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0, 22),
]);

let world: World;
let cleanUp: (() => void)[];
beforeEach(() => {
  cleanUp = [];
});
afterEach(async () => {
  for (const undo of cleanUp) undo();
  await world.close();
});

/** A load balancer in front of the forwarder that sends `prefix` first, one byte at a time. */
async function balancer(prefix: Buffer): Promise<number> {
  const server = createServer((socket) => {
    const behind = connect({ port: world.port, host: "127.0.0.1", noDelay: true });
    for (const byte of prefix) behind.write(Buffer.of(byte));
    socket.pipe(behind).pipe(socket);
    socket.on("error", () => behind.destroy());
    behind.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUp.push(() => server.close());
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

function ssh(port: number): ReturnType<typeof run> {
  return run("ssh", [...world.options(), "-p", String(port), "-l", `${world.vmId}:${world.token}`, "127.0.0.1", "echo in"]);
}

test("behind an allowed proxy the client's own address is logged, audited and counted", async () => {
  world = await openWorld({ env: { POSTERN_SSH_PROXIES: "127.0.0.0/8", POSTERN_SSH_MAX_PER_ADDRESS: "1" } });
  const port = await balancer(HEADER);
  expect((await ssh(port)).stdout.toString()).toBe("in\n");
  expect(world.edge.ticketRequests[0]?.clientAddress).toBe(CLIENT);
  expect(world.log.join("")).toContain(`"client":"${CLIENT}"`);
  const held = connect(port, "127.0.0.1");
  cleanUp.push(() => held.destroy());
  held.write("SSH-2.0-held\r\n");
  await until("the first connection is held", async () => (await ssh(port)).code === 255);
});

test("an allowed proxy that sends no header is refused: the address would be the proxy's", async () => {
  world = await openWorld({ env: { POSTERN_SSH_PROXIES: "127.0.0.0/8" } });
  const result = await ssh(await balancer(Buffer.alloc(0)));
  expect(result.code).toBe(255);
  expect(world.log.join("")).toContain('"reason":"proxy-header"');
  expect(world.edge.ticketRequests).toEqual([]);
});

test("a header from anybody else is refused", async () => {
  world = await openWorld();
  const result = await ssh(await balancer(HEADER));
  expect(result.code).toBe(255);
  expect(world.log.join("")).toContain('"reason":"not-ssh"');
  expect(world.edge.ticketRequests).toEqual([]);
});
