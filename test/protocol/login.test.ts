import fc from "fast-check";
import { expect, test } from "vitest";
import { admitsLinuxUser, isLinuxUser } from "../../protocol/linux-user.ts";
import { parseLogin } from "../../protocol/login.ts";

const VM = "0123456789abcdefghij";
const vmId = fc.stringMatching(/^[a-z0-9]{20}$/);
const linuxUser = fc.stringMatching(/^[a-z_][a-z0-9_-]{0,31}$/);
const token = fc.stringMatching(/^[a-z2-7_]{1,50}$/);

test("every user form is read alike with either separator", () => {
  fc.assert(
    fc.property(vmId, fc.option(linuxUser), fc.option(token), fc.constantFrom(":", ","), (vm, user, secret, separator) => {
      const name = `${vm}${user === null ? "" : `+${user}`}${secret === null ? "" : `${separator}${secret}`}`;
      expect(parseLogin(name)).toEqual({ ok: true, login: { vmId: vm, linuxUser: user, token: secret } });
    }),
  );
});

test("whatever is read has a VM id and Linux user that are safe everywhere", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string({ unit: "binary" }),
        fc.string().map((rest) => `${VM}${rest}`),
      ),
      (name) => {
        const parsed = parseLogin(name);
        if (!parsed.ok) return;
        expect(parsed.login.vmId).toMatch(/^[a-z0-9]{20}$/);
        expect(parsed.login.linuxUser ?? "root").toMatch(/^[a-z_][a-z0-9_-]{0,31}$/);
        expect(parsed.login.token).not.toBe("");
      },
    ),
  );
});

test("the first separator starts the token, so a token keeps every later one", () => {
  expect(parseLogin(`${VM}:a,b:c+d`)).toMatchObject({ login: { linuxUser: null, token: "a,b:c+d" } });
});

test.each([
  ["", "vm-id"],
  ["root", "vm-id"],
  [`${VM}x`, "vm-id"],
  [VM.toUpperCase(), "vm-id"],
  [`${VM}\n`, "vm-id"],
  [`../${VM}`, "vm-id"],
  [`+root:${VM}`, "vm-id"],
  [`${VM}+`, "linux-user"],
  [`${VM}+Root`, "linux-user"],
  [`${VM}+a+b`, "linux-user"],
  [`${VM}+a b`, "linux-user"],
  [`${VM}+-x`, "linux-user"],
  [`${VM}+root\n`, "linux-user"],
  [`${VM}+${"a".repeat(33)}`, "linux-user"],
  [`${VM}:`, "token-empty"],
  [`${VM}+root,`, "token-empty"],
  [`${VM}:${"a".repeat(108)}`, "too-long"],
])("%j is refused because of its %s", (name, reason) => {
  expect(parseLogin(name)).toEqual({ ok: false, reason });
});

test.each(["root", "_apt", "systemd-network", "a", "a".repeat(32), "x1", "a_-"])("%j may be a Linux user", (name) => {
  expect(isLinuxUser(name)).toBe(true);
});

test.each(["", "1a", "-a", "A", "a.b", "a,b", "a b", "a\n", "ä", "a".repeat(33), "a$", "../x", "a\u0000"])(
  "%j may be no Linux user",
  (name) => {
    expect(isLinuxUser(name)).toBe(false);
  },
);

test("a grant without a list admits anybody, an empty list nobody", () => {
  expect([admitsLinuxUser(null, "x"), admitsLinuxUser([], "x"), admitsLinuxUser(["x"], "x"), admitsLinuxUser(["y"], "x")]).toEqual([
    true,
    false,
    true,
    false,
  ]);
});
