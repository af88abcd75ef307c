import fc from "fast-check";
import { expect, test } from "vitest";
import { isVmId } from "../../protocol/ids.ts";
import { isLinuxUser } from "../../protocol/linux-user.ts";
import { parseLogin } from "../../protocol/login.ts";
import { checkTicket } from "../../protocol/ticket.ts";
import { importMacKeys, mintCredential, parseCredential } from "../../protocol/tokens.ts";
import { AUDIENCE, goodClaims, ISSUER, NOW, newSigner, sign } from "../protocol/support/tickets.ts";
import { FUZZ_RUNS, mutated } from "./support/mutations.ts";

const runs = { numRuns: FUZZ_RUNS };

test("a login is read into safe parts that make the same name again, or refused", () => {
  fc.assert(
    fc.property(mutated("login"), (bytes) => {
      const name = bytes.toString("utf8");
      const parsed = parseLogin(name);
      if (!parsed.ok) return;
      const { vmId, linuxUser, token } = parsed.login;
      expect(isVmId(vmId)).toBe(true);
      expect(linuxUser === null || isLinuxUser(linuxUser)).toBe(true);
      const front = linuxUser === null ? vmId : `${vmId}+${linuxUser}`;
      expect([front, `${front}:${token}`, `${front},${token}`]).toContain(name);
      expect(token).not.toBe("");
    }),
    runs,
  );
});

test("no text but one that was minted passes as a credential", async () => {
  const keys = await importMacKeys("dGVzdC1tYWMta2V5LW51bWJlci1vbmU");
  const minted = await mintCredential("access-token", "a".repeat(16), keys, (count) => new Uint8Array(count));
  expect((await parseCredential(minted.text, keys)).ok).toBe(true);
  const near = fc.tuple(fc.nat(minted.text.length - 1), fc.string({ maxLength: 3 })).map(([at, put]) => {
    const text = minted.text.slice(0, at) + put + minted.text.slice(at + put.length);
    return Buffer.from(text, "latin1");
  });
  await fc.assert(
    fc.asyncProperty(fc.oneof(mutated("token"), near), async (bytes) => {
      const text = bytes.toString("latin1");
      const parsed = await parseCredential(text, keys);
      // The MAC has 30 bits: a guess may pass it, but never with another shape.
      if (parsed.ok) expect(text).toMatch(/^ps[tks]_[a-z2-7]{46}$/);
    }),
    runs,
  );
});

test("a ticket that was changed in any way is refused, or says exactly what was signed", async () => {
  const signer = await newSigner();
  const claims = goodClaims();
  const good = await sign(signer, claims);
  const other = await sign(await newSigner(), claims);
  const [header = "", payload = "", signature = ""] = good.split(".");
  const json = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const part = fc.constantFrom(
    header,
    payload,
    signature,
    ...other.split("."),
    "",
    json({ alg: "none" }),
    json({ ...claims, user: "dev" }),
  );
  const joined = fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join("."));
  const edited = fc
    .tuple(fc.nat(good.length), fc.nat(3), fc.base64String({ maxLength: 6 }))
    .map(([at, drop, put]) => good.slice(0, at) + put + good.slice(at + drop));
  await fc.assert(
    fc.asyncProperty(fc.oneof(joined, edited), async (ticket) => {
      const checked = await checkTicket(ticket, { getKey: signer.getKey, issuer: ISSUER, audience: AUDIENCE, now: NOW });
      if (checked.ok) expect(checked.claims).toEqual(claims);
    }),
    { numRuns: Math.ceil(FUZZ_RUNS / 4) },
  );
});
