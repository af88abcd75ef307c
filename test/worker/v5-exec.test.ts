import { beforeAll, describe, expect, it } from "vitest";
import { failed } from "./support/stub-host.ts";
import { call, must, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

let world: World;
let vmId: string;
beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account);
});

const exec = (body: unknown, shown: { key: string } | { token: string } = { key: world.account.key }) =>
  call(`/v5/vms/${vmId}/exec-await`, { method: "POST", body, ...shown });
const lastCall = () => {
  const call = world.host.calls.at(-1);
  return { user: call?.claims.user, body: JSON.parse(new TextDecoder().decode(call?.body)) };
};
const codeOf = async (response: Response) => `${response.status} ${(await response.json<{ code: string }>()).code}`;

it("a command passes on with its user, time, environment and input", async () => {
  const body = { command: "cat", linuxUser: "alice", timeoutMs: 1234, env: { A: "b" }, stdin: "AP8=" };
  expect(await (await exec(body)).json()).toEqual({ stdout: "ran\n", stderr: "", statusCode: 0 });
  expect(lastCall()).toEqual({ user: "alice", body: { command: "cat", timeoutMs: 1234, env: { A: "b" }, stdin: "AP8=" } });
});

it("a command that names no user is for the guest to say whose it is, and one that names no time has 30 seconds", async () => {
  await exec({ command: "true", env: {} });
  expect(lastCall()).toEqual({ user: "*", body: { command: "true", timeoutMs: 30_000, env: {} } });
});

it("a command whose time is up is an answer without a status, not a failure", async () => {
  world.host.answerNext(() => failed("exec-timed-out", "too slow", { timeoutMs: 5, stdout: "so far", stderr: "oh" }));
  const response = await exec({ command: "sleep 9", timeoutMs: 5 });
  expect(response.status).toBe(200);
  expect(await response.json()).toEqual({ stdout: "so far", stderr: "oh", statusCode: null });
});

describe("is refused before the host hears of it:", () => {
  it.each([
    {},
    { command: 7 },
    { command: "x", linuxUser: "Not One" },
    { command: "x", timeoutMs: 0 },
    { command: "x", timeoutMs: 86_400_000 },
    { command: "x", env: { A: 1 } },
    { command: "x", stdin: "not base64!" },
    { command: "x", terminal: null },
  ])("%j", async (body) => {
    const before = world.host.calls.length;
    expect(await codeOf(await exec(body))).toBe("400 BAD_REQUEST");
    expect(world.host.calls.length).toBe(before);
  });

  it("more than a megabyte of input", async () => {
    const stdin = (bytes: number) => btoa("x".repeat(bytes));
    expect(await codeOf(await exec({ command: "cat", stdin: stdin(1024 * 1024 + 1) }))).toBe("413 PAYLOAD_TOO_LARGE");
    expect((await exec({ command: "cat", stdin: stdin(1024 * 1024) })).status).toBe(200);
  });
});

describe("an access token", () => {
  it("with a list of users must name one of them, and is told which", async () => {
    const { token } = await newIdentity(world.account, [vmId], ["alice", "bob"]);
    expect((await exec({ command: "id", linuxUser: "bob" }, { token })).status).toBe(200);
    for (const linuxUser of [undefined, "root", "mallory"]) {
      const response = await exec({ command: "id", linuxUser }, { token });
      expect(response.status).toBe(403);
      const body = await response.json<{ code: string; message: string; allowedUsers: string[] }>();
      expect(body).toMatchObject({ code: "FORBIDDEN", allowedUsers: ["alice", "bob"] });
      expect(body.message).toContain("alice, bob");
    }
  });

  it("names its user in the body: the header of 0.1 counts for nothing here", async () => {
    const { token } = await newIdentity(world.account, [vmId], ["alice"]);
    const sent = { method: "POST", token, linuxUser: "alice", body: { command: "id" } };
    expect((await call(`/v5/vms/${vmId}/exec-await`, sent)).status).toBe(403);
  });

  it("to a VM that was not granted is told that there is none", async () => {
    const { token } = await newIdentity(world.account);
    expect(await codeOf(await exec({ command: "id" }, { token }))).toBe("404 NOT_FOUND");
  });
});

it("waiting for a VM that no longer runs answers at once; killing is stopping", async () => {
  const id = await newVm(world.account);
  const post = (action: string) => must(`/v1/vms/${id}/${action}`, { method: "POST", key: world.account.key });
  const awaited = post("await");
  expect(await post("kill")).toEqual({ id });
  expect(await awaited).toEqual({ id, exitStatus: "stopped" });
  expect(await post("await")).toEqual({ id, exitStatus: "stopped" });
});

it("waiting for a VM ends when it is deleted, and for another account's is not found", async () => {
  const id = await newVm(world.account);
  const awaited = must(`/v1/vms/${id}/await`, { method: "POST", key: world.account.key });
  await must(`/v1/vms/${id}`, { method: "DELETE", key: world.account.key });
  expect(await awaited).toEqual({ id, exitStatus: "deleted" });
  expect((await call(`/v1/vms/${id}/await`, { method: "POST", key: world.account.key })).status).toBe(404);
});
