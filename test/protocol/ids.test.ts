import { expect, test } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { isObjectName, isVmId, newObjectName, newVmId, regionObjectName } from "../../protocol/ids.ts";
import { actsAsLinuxUser, isOpenToAccessTokens, OPERATIONS } from "../../protocol/operations.ts";
import { accountSubject, identitySubject } from "../../protocol/subjects.ts";

test("a new id has the form that is accepted, and no two are alike", () => {
  const vmIds = Array.from({ length: 200 }, () => newVmId(platformRandomBytes));
  const names = Array.from({ length: 200 }, () => newObjectName(platformRandomBytes));
  expect(vmIds.every(isVmId)).toBe(true);
  expect(names.every(isObjectName)).toBe(true);
  expect(new Set([...vmIds, ...names]).size).toBe(400);
});

test.each([
  "",
  "a".repeat(19),
  "a".repeat(21),
  `${"a".repeat(19)}A`,
  `${"a".repeat(19)}-`,
  `${"a".repeat(19)}\n`,
  ` ${"a".repeat(19)}`,
])("%j is no VM id", (text) => {
  expect(isVmId(text)).toBe(false);
});

test.each(["", "a".repeat(15), "a".repeat(17), `${"a".repeat(15)}1`, `${"a".repeat(15)}A`, `${"a".repeat(16)}\n`])(
  "%j is no object name",
  (text) => {
    expect(isObjectName(text)).toBe(false);
  },
);

test("a region's object has one name, and two regions have two", async () => {
  const [one, same, other] = await Promise.all(["eu", "eu", "us"].map(regionObjectName));
  expect(one).toBe(same);
  expect(one).not.toBe(other);
  expect(isObjectName(one ?? "")).toBe(true);
});

test("an access token may never create, delete, stop, suspend, change, resize or capture a machine", () => {
  const closed = OPERATIONS.filter((operation) => !isOpenToAccessTokens(operation));
  expect(closed).toEqual(["create", "stop", "suspend", "update", "resize", "snapshot", "delete"]);
});

test("only what runs inside the guest acts as a Linux user", () => {
  expect(OPERATIONS.filter(actsAsLinuxUser)).toEqual(["exec", "files", "terminal", "services", "ssh"]);
});

test("an identity and an account of the same name are different subjects", () => {
  expect(identitySubject("x")).not.toBe(accountSubject("x"));
});
