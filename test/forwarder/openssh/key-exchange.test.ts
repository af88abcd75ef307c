import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { HYBRID_KEX } from "../../../forwarder/hybrid-kex.ts";
import { run } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(() => world.close());

test("OpenSSH agrees on the hybrid with ML-KEM if it knows it, again at each new exchange, and no byte is lost", async () => {
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
