import { expect, test } from "vitest";
import type { AdmittedClaims } from "../../forwarder/admission.ts";
import { KeptAdmissions, loginName } from "../../forwarder/kept-admissions.ts";

const MINTED_S = 1_000;

function kept(ticket: string, exp = MINTED_S + 60): { ticket: string; claims: AdmittedClaims } {
  const claims: AdmittedClaims = {
    iss: "https://edge.test",
    aud: ["forwarder:eu"],
    sub: "identity:aaaaaaaaaaaaaaaa",
    jti: "a".repeat(24),
    vm: "a".repeat(20),
    user: "root",
    op: "ssh",
    epoch: 1,
    read_at: MINTED_S,
    iat: MINTED_S,
    exp,
    azp: "forwarder:aaaaaaaaaaaaaaaa",
    host_url: "http://127.0.0.1:1",
    cred: "aaaaaaaaaaaaaaaa",
  };
  return { ticket, claims };
}

test("a ticket is found until the margin before its end, and not after", () => {
  let now = MINTED_S * 1000;
  const shelf = new KeptAdmissions({ reuseMarginMs: 10_000, maxKept: 10 }, () => now);
  shelf.keep("a", kept("one"));
  now += 49_999;
  expect(shelf.find("a")?.ticket).toBe("one");
  now += 1;
  expect(shelf.find("a")).toBe(null);
});

test("no more are kept than allowed: the oldest goes first, and with zero nothing is kept", () => {
  const shelf = new KeptAdmissions({ reuseMarginMs: 0, maxKept: 2 }, () => MINTED_S * 1000);
  for (const name of ["a", "b", "c"]) shelf.keep(name, kept(name));
  expect(["a", "b", "c"].map((name) => shelf.find(name)?.ticket)).toEqual([undefined, "b", "c"]);
  const none = new KeptAdmissions({ reuseMarginMs: 0, maxKept: 0 }, () => MINTED_S * 1000);
  none.keep("a", kept("a"));
  expect(none.find("a")).toBe(null);
});

test("what has ended makes room before anything that still lasts", () => {
  let now = MINTED_S * 1000;
  const shelf = new KeptAdmissions({ reuseMarginMs: 0, maxKept: 2 }, () => now);
  shelf.keep("short", kept("short", MINTED_S + 10));
  shelf.keep("long", kept("long"));
  now += 20_000;
  shelf.keep("new", kept("new"));
  expect(["short", "long", "new"].map((name) => shelf.find(name)?.ticket)).toEqual([undefined, "long", "new"]);
});

test("a dropped one is gone, and another one kept by the same name takes its place", () => {
  const shelf = new KeptAdmissions({ reuseMarginMs: 0, maxKept: 2 }, () => MINTED_S * 1000);
  shelf.keep("a", kept("one"));
  shelf.keep("a", kept("two"));
  expect(shelf.find("a")?.ticket).toBe("two");
  shelf.drop("a");
  expect(shelf.find("a")).toBe(null);
});

test("a login's name differs with the VM, the Linux user, the address and the token, and tells none of them", () => {
  const vmId = "a".repeat(20);
  const logins: [string | null, string, string][] = [
    [null, "192.0.2.1", "pst_one"],
    ["root", "192.0.2.1", "pst_one"],
    [null, "192.0.2.2", "pst_one"],
    [null, "192.0.2.1", "pst_two"],
  ];
  const names = logins.map(([linuxUser, address, token]) => loginName({ login: { vmId, linuxUser }, address }, token));
  names.push(loginName({ login: { vmId: "b".repeat(20), linuxUser: null }, address: "192.0.2.1" }, "pst_one"));
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(name).toMatch(/^[A-Za-z0-9+/]{43}=$/);
});
