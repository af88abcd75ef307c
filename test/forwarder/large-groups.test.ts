import { createDiffieHellmanGroup, createECDH, createPublicKey, generateKeyPairSync, randomBytes, verify } from "node:crypto";
import { expect, test } from "vitest";
import { beginExchange, LARGE_GROUPS, signWithRsa } from "../../forwarder/large-groups.ts";
import { mpint } from "../../forwarder/ssh-wire.ts";

const groups = [...LARGE_GROUPS.entries()];

test.each(groups)("both sides of %s come to the same secret, also when the other one computes otherwise", async (_name, group) => {
  const [one, two] = [await beginExchange(group), await beginExchange(group)];
  expect(await one.secretWith(two.publicBytes)).toEqual(await two.secretWith(one.publicBytes));
  const other = group.type === "dh" ? createDiffieHellmanGroup(group.group) : createECDH(group.group);
  const theirs = other.generateKeys();
  expect(await one.secretWith(theirs)).toEqual(mpint(other.computeSecret(one.publicBytes)).subarray(4));
  // As a wire has it, with a leading zero.
  if (group.type === "dh") expect(await one.secretWith(mpint(theirs).subarray(4))).toEqual(await one.secretWith(theirs));
});

const prime = createDiffieHellmanGroup("modp14").getPrime();
const lastDigit = (digit: number) => Buffer.concat([prime.subarray(0, -1), Buffer.of(digit)]);

test.each([
  ["nothing", Buffer.alloc(0)],
  ["zero", Buffer.alloc(256)],
  ["one", Buffer.of(1)],
  ["the prime", prime],
  ["the prime less one", lastDigit((prime.at(-1) ?? 0) - 1)],
  ["a larger number than the prime", Buffer.alloc(256, 0xff)],
  ["a number of 30,000 bytes", Buffer.alloc(30_000, 0x7f)],
])("%s is no half of a key exchange in a group of numbers", async (_what, peer) => {
  const half = await beginExchange({ type: "dh", group: "modp14" });
  expect(await half.secretWith(peer)).toBeNull();
});

test.each([
  ["nothing", Buffer.alloc(0)],
  ["the point at infinity", Buffer.of(0)],
  ["a point that is not on the curve", Buffer.concat([Buffer.of(4), Buffer.alloc(96, 1)])],
  ["a point of another curve", createECDH("prime256v1").generateKeys()],
  ["random bytes", randomBytes(97)],
  ["30,000 bytes", Buffer.alloc(30_000, 4)],
])("%s is no half of a key exchange over a curve", async (_what, peer) => {
  const half = await beginExchange({ type: "ec", group: "secp384r1" });
  expect(await half.secretWith(peer)).toBeNull();
});

test("the event loop goes round while a secret of the largest group is computed", async () => {
  const group = { type: "dh", group: "modp18" } as const;
  const [one, two] = [await beginExchange(group), await beginExchange(group)];
  let done = false;
  let rounds = 0;
  const count = () => {
    rounds += 1;
    if (!done) setImmediate(count);
  };
  setImmediate(count);
  await one.secretWith(two.publicBytes);
  done = true;
  expect(rounds).toBeGreaterThan(1);
});

test.each(["sha256", "sha512"] as const)("an RSA signature with %s verifies", async (hash) => {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
  const data = randomBytes(32);
  expect(verify(hash, data, createPublicKey(privateKey), await signWithRsa(hash, data, privateKey))).toBe(true);
});
