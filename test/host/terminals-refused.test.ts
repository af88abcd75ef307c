import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { TerminalClient } from "./support/terminal-client.ts";
import { VmTerminals } from "./support/terminals-fixture.ts";
import { startTestHost, type TestHost } from "./support/test-host.ts";

let host: TestHost;
let terminals: VmTerminals;
beforeAll(async () => {
  host = await startTestHost();
  terminals = await VmTerminals.ofNewVm(host);
}, 60_000);
afterAll(() => host.close());
beforeEach(async () => {
  for (const { name } of await terminals.list()) await terminals.close(name);
});

test.each(["", "a b", "a/b", "ä", "x".repeat(65), "a;b"])("refuses the name %j", async (name) => {
  await expect(terminals.open({ name })).rejects.toMatchObject({ status: 400, kind: "session-id-invalid" });
  expect(await terminals.list()).toEqual([]);
});

test.each(["", "7", "123", "Main", "a_b", "a b", "x".repeat(65)])("refuses the slug %j", async (slug) => {
  await expect(terminals.open({ dialect: "v5", slug })).rejects.toMatchObject({ status: 400, kind: "session-id-invalid" });
});

test("refuses a name that is taken", async () => {
  await terminals.open({ name: "mine" });
  await expect(terminals.open({ name: "mine" })).rejects.toMatchObject({ status: 409, kind: "session-exists" });
  await expect(terminals.open({ name: "mine" }, { user: "alice" })).rejects.toMatchObject({ status: 409 });
  expect(await terminals.list()).toHaveLength(1);
});

test.each([
  ["cols", "0"],
  ["cols", "-5"],
  ["rows", "65536"],
  ["rows", "many"],
  ["rows", "1.5"],
  ["dialect", "v2"],
  ["exec", ""],
  ["exec", "a\0b"],
  ["replaceOnExit", "yes"],
])("refuses %s=%j", async (member, value) => {
  await expect(terminals.open({ [member]: value })).rejects.toMatchObject({ status: 400, kind: "bad-request" });
  expect(await terminals.list()).toEqual([]);
});

test("refuses a Linux user that the guest does not have", async () => {
  await expect(terminals.open({}, { user: "mallory" })).rejects.toMatchObject({ status: 404, kind: "linux-user-not-found" });
  expect(await terminals.list()).toEqual([]);
});

test("refuses another Linux user's session, to attach to and to close", async () => {
  await terminals.open({ name: "mine" });
  await terminals.open({ name: "hers" }, { user: "alice" });
  for (const [id, user] of [
    ["mine", "alice"],
    ["hers", "bob"],
  ] as const) {
    await expect(terminals.attach(id, {}, { user })).rejects.toMatchObject({ kind: "session-user-mismatch" });
    expect(await (await terminals.close(id, user)).json()).toMatchObject({ kind: "session-user-mismatch" });
  }
  expect(await terminals.list()).toMatchObject([{ attached: 1 }, { attached: 1 }]);
});

test.each([
  ["v1", "pty-999"],
  ["v1", "one"],
  ["v5", "999"],
  ["v5", "other"],
  ["v5", "99999999999999999999"],
])("refuses a session that is not there: %s %s", async (dialect, id) => {
  await terminals.open();
  await expect(terminals.attach(id, { dialect })).rejects.toMatchObject({ status: 404, kind: "session-not-found" });
  expect((await terminals.close(id, "root", dialect)).status).toBe(404);
});

test("refuses an id that cannot be one", async () => {
  await expect(terminals.attach("%00")).rejects.toMatchObject({ status: 400, kind: "session-id-invalid" });
  expect((await terminals.close("a%2Fb")).status).toBe(400);
});

test.each([
  ["for another VM", { vm: "b".repeat(20) }],
  ["for another operation", { op: "exec" as const }],
  ["for SSH", { op: "ssh" as const }],
  ["that has expired", { iat: 1, exp: 2 }],
  ["bound to an SSH key", { cnf: { ssh: "SHA256:x" } }],
])("refuses a ticket %s", async (_what, claims) => {
  await expect(terminals.open({}, claims)).rejects.toMatchObject({ status: 401, kind: "ticket-refused" });
});

test("refuses whoever has no ticket, and a path that is no terminal's", async () => {
  await expect(TerminalClient.open(`${host.agent.url}/vms/${terminals.vm}/terminals/open`, {})).rejects.toMatchObject({
    status: 401,
  });
  await expect(TerminalClient.open(`${host.agent.url}/vms/${terminals.vm}/exec`, {})).rejects.toMatchObject({ status: 404 });
});

test("refuses a client's ticket the second time", async () => {
  const claims = { azp: "client" as const, jti: `once-${terminals.vm}` };
  await terminals.open({}, claims);
  await expect(terminals.open({}, claims)).rejects.toMatchObject({ kind: "ticket-refused" });
  expect(await terminals.list()).toHaveLength(1);
});

test("refuses a VM that is not there", async () => {
  const gone = "c".repeat(20);
  const path = `/vms/${gone}/terminals/open?dialect=v1`;
  await expect(TerminalClient.connect(host, path, { vm: gone })).rejects.toMatchObject({ status: 404, kind: "vm-not-found" });
});
