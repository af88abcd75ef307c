import { randomBytes } from "node:crypto";
import { afterEach, expect, test } from "vitest";
import { HYBRID_KEX } from "../../../forwarder/hybrid-kex.ts";
import { run } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
afterEach(() => world.close());

test("OpenSSH agrees on the hybrid with ML-KEM if it knows it, again at each new exchange, and no byte is lost", async () => {
  world = await openWorld();
  const known = (await run("ssh", ["-Q", "kex"])).stdout.toString().split("\n");
  const agreed = known.includes(HYBRID_KEX) ? HYBRID_KEX : "curve25519-sha256";
  const bytes = randomBytes(4_000_000);
  const args = world.ssh(`${world.vmId}:${world.token}`, "cat");
  const result = await run("ssh", ["-v", "-o", "RekeyLimit=1M", ...args], { input: bytes });
  const exchanges = [...result.stderr.matchAll(/kex: algorithm: (\S+)/g)].map((match) => match[1]);
  expect(exchanges.length).toBeGreaterThan(3);
  expect(new Set(exchanges)).toEqual(new Set([agreed]));
  expect(result.stdout.equals(bytes)).toBe(true);
});

test.each([
  "diffie-hellman-group14-sha256",
  "diffie-hellman-group16-sha512",
  "diffie-hellman-group18-sha512",
  "ecdh-sha2-nistp384",
  "ecdh-sha2-nistp521",
])("a VM whose sshd knows nothing but %s is entered, again at each new exchange, and no byte is lost", async (kex) => {
  world = await openWorld({ sshd: [`KexAlgorithms ${kex}`, "RekeyLimit 1M"] });
  const bytes = randomBytes(4_000_000);
  const result = await run("ssh", world.ssh(`${world.vmId}:${world.token}`, "cat"), { input: bytes });
  expect(result.code).toBe(0);
  expect(result.stdout.equals(bytes)).toBe(true);
});

test.each(["rsa-sha2-512", "rsa-sha2-256", "ecdsa-sha2-nistp256", "ssh-ed25519"])(
  "OpenSSH believes the host by %s after each kind of exchange",
  async (hostKey) => {
    world = await openWorld();
    for (const kex of ["curve25519-sha256", "ecdh-sha2-nistp256", "diffie-hellman-group14-sha256"]) {
      const options = ["-o", `KexAlgorithms=${kex}`, "-o", `HostKeyAlgorithms=${hostKey}`, "-o", "RekeyLimit=16K"];
      const bytes = randomBytes(100_000);
      const result = await run("ssh", [...options, ...world.ssh(`${world.vmId}:${world.token}`, "cat")], { input: bytes });
      expect(result.stdout.equals(bytes)).toBe(true);
    }
  },
);
