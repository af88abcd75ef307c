import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openProxyConnection } from "../../../bin/ssh/proxy-connection.ts";
import { SOFTWARE } from "../../../forwarder/ssh-servers.ts";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import type { TicketClaims } from "../../../protocol/ticket.ts";
import { DEFAULT_VERIFIER_LIMITS } from "../../../protocol/verifier.ts";
import { generateSshKeyPair, parseSshPublicKey } from "../../../service/ssh-keys.ts";
import { type Finished, type Running, run, start, until } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

const POSTERN = fileURLToPath(new URL("../../../bin/postern.ts", import.meta.url));

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(() => world.close());

const key = generateSshKeyPair(platformRandomBytes);
const fingerprint = parseSshPublicKey(key.publicKey)?.fingerprint ?? "";

function environment(token = world.token): Record<string, string> {
  const tokenFile = join(world.folder, "token");
  writeFileSync(tokenFile, token, { mode: 0o600 });
  return { POSTERN_API_URL: world.edge.url, POSTERN_TOKEN_FILE: tokenFile, POSTERN_KNOWN_HOSTS: join(world.folder, "pinned") };
}

function startSsh(...args: string[]): Running {
  return start(process.execPath, [POSTERN, "ssh", ...args], { env: environment(), input: "open" });
}

function ssh(...args: string[]): Promise<Finished> {
  return run(process.execPath, [POSTERN, "ssh", ...args], { env: environment() });
}

function open(ticket: string, publicKey = key.publicKey): Promise<unknown> {
  return openProxyConnection("127.0.0.1", world.port, ticket, publicKey).then(({ socket }) => socket.destroy());
}

test("ssh reaches the VM's own sshd: exit codes, both streams and raw bytes, and the token never leaves HTTPS", async () => {
  const result = await ssh(world.vmId, "head -c 3000000 /dev/zero; echo problem >&2; exit 7");
  expect(result).toMatchObject({ code: 7 });
  expect(result.stdout.length).toBe(3_000_000);
  expect(result.stderr).toContain("problem");
  expect(world.edge.ticketRequests).toEqual([]);
});

test("no private key outlives the call", async () => {
  const folder = join(world.folder, "tmp");
  mkdirSync(folder);
  const result = await run(process.execPath, [POSTERN, "ssh", world.vmId, "true"], { env: { ...environment(), TMPDIR: folder } });
  expect(result).toMatchObject({ code: 0 });
  expect(readdirSync(folder)).toEqual([]);
});

test("the host key that the client checks is the VM's, and another one later is refused", async () => {
  expect((await ssh(world.vmId, "true")).code).toBe(0);
  const pinned = join(world.folder, "pinned");
  expect(readFileSync(pinned, "utf8")).toBe(`${world.vmId} ${world.host.hostKey}\n`);
  writeFileSync(pinned, `${world.vmId} ${generateSshKeyPair(platformRandomBytes).publicKey}\n`);
  const changed = await ssh(world.vmId, "echo reached");
  expect(changed.code).toBe(255);
  expect(changed.stderr).toContain("another host key than before");
  expect(changed.stdout.toString()).toBe("");
});

test("a forwarder that names a false host key is noticed before anything is sent", async () => {
  world.host.hostKey = generateSshKeyPair(platformRandomBytes).publicKey;
  const result = await ssh(world.vmId, "echo reached");
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("Host key verification failed.");
});

test.each([
  ["a key that the ticket is not bound to", { cnf: { ssh: "SHA256:other" } }, "confirmation"],
  ["a ticket that is bound to no key", {}, "confirmation"],
  ["a ticket for another operation", { op: "exec", cnf: { ssh: fingerprint } }, "other-operation"],
  ["a ticket of the edge's own", { azp: "edge", cnf: { ssh: fingerprint } }, "carrier"],
  ["a ticket for another region", { aud: ["forwarder:elsewhere"], cnf: { ssh: fingerprint } }, "audience"],
] satisfies [string, Partial<TicketClaims>, string][])(
  "%s is refused, with its reason in the log",
  async (_what, changes, reason) => {
    const ticket = await world.edge.ticket(world.grant, changes);
    await expect(open(ticket)).rejects.toThrow("The ticket was not accepted");
    expect(world.log.join("")).toContain(`"reason":"${reason}"`);
    expect(world.host.tunnels).toEqual([]);
  },
);

test("a ticket that is bound to a key is no password", async () => {
  const ticket = await world.edge.ticket(world.grant, { cnf: { ssh: fingerprint } });
  const result = await run("ssh", ["-o", "NumberOfPasswordPrompts=1", ...world.ssh(world.vmId, "true")], {
    env: world.answering(ticket),
  });
  expect(result.code).toBe(255);
});

test("what the host says of a VM that does not wake is told", async () => {
  world.host.failures = [{ kind: "vm-start-timeout", message: "The VM did not wake in time." }];
  const ticket = await world.edge.ticket(world.grant, { cnf: { ssh: fingerprint } });
  await expect(open(ticket)).rejects.toThrow("The VM did not wake in time.");
});

test("a wrong token is told by the API, and nothing is sent to the forwarder", async () => {
  const result = await run(process.execPath, [POSTERN, "ssh", world.vmId, "true"], { env: environment("pst_wrong") });
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("The credential is not valid.");
  expect(result.stderr).not.toContain("pst_wrong");
});

test("a revoked token cuts the connection, and the tunnel with it", async () => {
  const running = startSsh(world.vmId, "echo up; sleep 60");
  await until("the command runs", () => running.stdout().includes("up"));
  world.grant.revoked = true;
  world.edge.raiseFloor(world.grant);
  expect((await running.done).code).toBe(255);
  await until("the tunnel is closed", () => world.host.openTunnels === 0);
});

test("an edge that is out of reach for longer than is set cuts the connection, and the tunnel with it", async () => {
  await world.close();
  world = await openWorld({
    env: { POSTERN_UNCONFIRMED_SESSION_MS: "1000" },
    verifierLimits: { ...DEFAULT_VERIFIER_LIMITS, feedSilenceMs: 500 },
    membershipTimes: { heartbeatMs: 50 },
  });
  const running = startSsh(world.vmId, "echo up; sleep 60");
  await until("the command runs", () => running.stdout().includes("up"));
  await world.edge.stop();
  expect((await running.done).code).toBe(255);
  expect(world.log.join("")).toContain("Your access could not be confirmed for too long");
  await until("the tunnel is closed", () => world.host.openTunnels === 0);
});

test.each([
  ["no ticket", "POSTERN-TICKET \n"],
  ["no key", "POSTERN-TICKET a.b.c\n"],
  ["another kind of key", "POSTERN-TICKET a.b.c ssh-rsa AAAA\n"],
  ["a line without end", `POSTERN-TICKET ${"a".repeat(5_000)}`],
])("an opening line with %s is turned away without a word", async (_what, line) => {
  const socket = connect(world.port, "127.0.0.1");
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk.toString();
  });
  socket.on("error", () => undefined);
  socket.write(line);
  await until("the socket is closed", () => socket.destroyed);
  expect(answer).toBe(`SSH-2.0-${SOFTWARE}\r\n`);
});
