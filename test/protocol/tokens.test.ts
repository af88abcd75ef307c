import fc from "fast-check";
import { expect, test } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newObjectName } from "../../protocol/ids.ts";
import {
  CREDENTIAL_LENGTH,
  type CredentialKind,
  credentialLogName,
  importMacKeys,
  type MacKeys,
  mintCredential,
  parseCredential,
} from "../../protocol/tokens.ts";

const KEY_A = "AAAAAAAAAAAAAAAAAAAAAA";
const KEY_B = "_-BBBBBBBBBBBBBBBBBBBB";
const KINDS: readonly CredentialKind[] = ["access-token", "api-key", "service-key"];

async function mint(kind: CredentialKind = "access-token", keys?: MacKeys): Promise<string> {
  const macKeys = keys ?? (await importMacKeys(KEY_A));
  return (await mintCredential(kind, newObjectName(platformRandomBytes), macKeys, platformRandomBytes)).text;
}

test.each(KINDS)("a minted %s is read back as what it is, and fits everywhere", async (kind) => {
  const keys = await importMacKeys(KEY_A);
  const routing = newObjectName(platformRandomBytes);
  const { text, secretHash } = await mintCredential(kind, routing, keys, platformRandomBytes);
  expect(text).toMatch(/^ps[tks]_[a-z2-7]{46}$/);
  expect(text).toHaveLength(CREDENTIAL_LENGTH);
  expect(CREDENTIAL_LENGTH).toBeLessThanOrEqual(50);
  expect(await parseCredential(text, keys)).toEqual({ ok: true, credential: { kind, routing, secretHash } });
});

test("no two credentials share a secret", async () => {
  const texts = await Promise.all(Array.from({ length: 100 }, () => mint()));
  expect(new Set(texts.map((text) => text.slice(20, 44))).size).toBe(100);
});

test("changing any one digit, the prefix included, is noticed", async () => {
  const keys = await importMacKeys(KEY_A);
  const text = await mint();
  await fc.assert(
    fc.asyncProperty(fc.nat(text.length - 1), fc.constantFrom(..."abcdefghijklmnopqrstuvwxyz234567"), async (index, digit) => {
      fc.pre(text[index] !== digit);
      expect((await parseCredential(text.slice(0, index) + digit + text.slice(index + 1), keys)).ok).toBe(false);
    }),
  );
});

test("one kind of credential never passes as another", async () => {
  const keys = await importMacKeys(KEY_A);
  const text = await mint();
  for (const prefix of ["psk", "pss"]) {
    expect(await parseCredential(`${prefix}${text.slice(3)}`, keys)).toEqual({ ok: false, reason: "mac" });
  }
});

test("whatever a stranger sends has the wrong shape or MAC, and nothing throws", async () => {
  const keys = await importMacKeys(KEY_A);
  const near = fc.stringMatching(/^ps[tks]_[a-z2-7]{40,52}$/);
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.string({ unit: "binary" }), near), async (text) => {
      expect((await parseCredential(text, keys)).ok).toBe(false);
    }),
  );
});

test.each(["", "pst", "pst_", "xyz_", "pst-"])("%j before a good body is a wrong shape", async (prefix) => {
  const keys = await importMacKeys(KEY_A);
  const body = (await mint()).slice(4);
  const text = prefix === "pst_" ? `${prefix}${body}x` : `${prefix}${body}`;
  expect(await parseCredential(text, keys)).toEqual({ ok: false, reason: "shape" });
});

test("a credential survives the rotation of the MAC key, until the old key is taken away", async () => {
  const [old, both, fresh] = await Promise.all([KEY_A, `${KEY_B},${KEY_A}`, KEY_B].map(importMacKeys));
  if (old === undefined || both === undefined || fresh === undefined) throw new Error("no keys");
  const before = await mint("access-token", old);
  const after = await mint("access-token", both);
  expect((await parseCredential(before, both)).ok).toBe(true);
  expect((await parseCredential(after, fresh)).ok).toBe(true);
  expect(await parseCredential(before, fresh)).toEqual({ ok: false, reason: "mac" });
});

test.each(["", " , ", "c2hvcnQ", "not base64!"])("a deployment whose MAC keys are %j does not start", async (setting) => {
  await expect(importMacKeys(setting)).rejects.toThrow();
});

test("the log name of a credential gives away no part of it", async () => {
  const keys = await importMacKeys(KEY_A);
  const text = await mint();
  const parsed = await parseCredential(text, keys);
  if (!parsed.ok) throw new Error(parsed.reason);
  const name = credentialLogName(parsed.credential);
  expect(name).toMatch(/^pst:[0-9a-f]{8}$/);
  expect(text).not.toContain(name.slice(4));
});
