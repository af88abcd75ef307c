import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type ForwarderState, openForwarderState, rotateHostKeys } from "../../../forwarder/host-keys.ts";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import { type Finished, run, until } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

// Making RSA keys takes seconds: each test gets a copy.
const made = mkdtempSync(join(tmpdir(), "postern-host-keys-"));
let folder: string;
let state: ForwarderState;
let worlds: World[];
beforeAll(async () => {
  await openForwarderState(made, platformRandomBytes);
});
afterAll(() => rmSync(made, { recursive: true, force: true }));
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "postern-host-keys-"));
  cpSync(made, join(folder, "state"), { recursive: true });
  state = await openForwarderState(join(folder, "state"), platformRandomBytes);
  worlds = [];
});
afterEach(async () => {
  for (const world of worlds) await world.close();
  rmSync(folder, { recursive: true, force: true });
});

async function open(with_: ForwarderState): Promise<World> {
  const world = await openWorld({ state: with_ });
  worlds.push(world);
  return world;
}

/** `ssh` under the name `gateway` whatever the port, with a known_hosts file of this test. */
function connect(world: World, strict: "yes" | "accept-new", ...options: string[]): Promise<Finished> {
  const fixed = [
    `StrictHostKeyChecking=${strict}`,
    `UserKnownHostsFile=${join(folder, "known_hosts")}`,
    "GlobalKnownHostsFile=/dev/null",
    "HostKeyAlias=gateway",
    "UpdateHostKeys=yes",
    "BatchMode=yes",
    ...options,
  ];
  const args = fixed.flatMap((option) => ["-o", option]);
  const user = `${world.vmId}:${world.token}`;
  return run("ssh", ["-F", "none", ...args, "-p", String(world.port), "-l", user, "127.0.0.1", "sleep 0.2; true"]);
}

/** What a person has who added one published line by hand. */
function trust(line: string | undefined): void {
  writeFileSync(join(folder, "known_hosts"), `gateway ${line}\n`);
}

function known(): string[] {
  return readFileSync(join(folder, "known_hosts"), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split(" ").slice(1, 3).join(" "));
}

test("a client learns every key of the gateway, those in use and the next ones, and none of the VM", async () => {
  const world = await open(state);
  trust(state.publicHostKeys[0]);
  expect((await connect(world, "yes")).code).toBe(0);
  await until("the client wrote what it learned", () => known().length > 1);
  expect(known().sort()).toEqual([...state.publicHostKeys, ...state.nextPublicHostKeys].sort());
});

test("a client that has connected before a rotation connects after it without a question, and forgets the old keys", async () => {
  const first = await open(state);
  trust(state.publicHostKeys[0]);
  expect((await connect(first, "yes")).code).toBe(0);
  await until("the client wrote what it learned", () => known().length > 1);
  const rotated = await rotateHostKeys(join(folder, "state"), platformRandomBytes);
  expect(rotated.publicHostKeys).toEqual(state.nextPublicHostKeys);
  const second = await open(rotated);
  const result = await connect(second, "yes");
  expect(result).toMatchObject({ code: 0 });
  await until("the old keys are gone", () => !known().includes(state.publicHostKeys[0] ?? ""));
  expect(known().sort()).toEqual([...rotated.publicHostKeys, ...rotated.nextPublicHostKeys].sort());
});

test.each([
  ["rsa-sha2-256", 2],
  ["rsa-sha2-512", 2],
  ["ecdsa-sha2-nistp256", 1],
])("keys are proven to a client that negotiated %s", async (name, index) => {
  const world = await open(state);
  trust(state.publicHostKeys[index]);
  expect((await connect(world, "yes", `HostKeyAlgorithms=${name}`, `PubkeyAcceptedAlgorithms=${name}`)).code).toBe(0);
  await until("the client wrote what it learned", () => known().length > 1);
  expect(known()).toContain(state.nextPublicHostKeys[index]);
});

test("a client that asks for proofs without end is disconnected", async () => {
  const world = await open(state);
  const { default: ssh2 } = await import("ssh2");
  const reason = await new Promise<string>((resolve) => {
    const client = new ssh2.Client();
    client.on("error", (error) => resolve(error.message));
    client.on("close", () => resolve("closed"));
    client.on("ready", () => {
      const protocol: unknown = Reflect.get(client, "_protocol");
      const prove: unknown = Reflect.get(Object(protocol), "openssh_hostKeysProve");
      for (let asked = 0; asked < 20; asked += 1) Reflect.apply(prove as () => void, protocol, [[]]);
    });
    client.connect({ host: "127.0.0.1", port: world.port, username: `${world.vmId}:${world.token}`, authHandler: ["none"] });
  });
  expect(reason).toBe("Too many requests to prove host keys.");
});

test.each(["ed25519", "ecdsa", "rsa"])("an %s certificate beside the key is trusted by who trusts its authority", async (type) => {
  const authority = join(folder, "authority");
  const keyFile = join(folder, "state", `ssh_host_${type}_key`);
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", authority]);
  const index = ["ed25519", "ecdsa", "rsa"].indexOf(type);
  writeFileSync(`${keyFile}.pub`, `${state.publicHostKeys[index]}\n`);
  const signed = await run("ssh-keygen", ["-q", "-s", authority, "-I", "gateway", "-h", "-n", "gateway", `${keyFile}.pub`]);
  expect(signed).toMatchObject({ code: 0 });
  const world = await open(await openForwarderState(join(folder, "state"), platformRandomBytes));
  writeFileSync(join(folder, "known_hosts"), `@cert-authority gateway ${readFileSync(`${authority}.pub`, "utf8")}`);
  expect(await connect(world, "yes", "RekeyLimit=16K")).toMatchObject({ code: 0 });
  // Who knows nothing of certificates still gets the plain key.
  rmSync(join(folder, "known_hosts"));
  expect(await connect(world, "accept-new", "HostKeyAlgorithms=ssh-ed25519")).toMatchObject({ code: 0 });
});

test("a certificate for another key stops the start", async () => {
  writeFileSync(join(folder, "state", "ssh_host_ed25519_key-cert.pub"), `ssh-ed25519-cert-v01@openssh.com AAAA\n`);
  await expect(openForwarderState(join(folder, "state"), platformRandomBytes)).rejects.toThrow("no certificate for the host key");
});
