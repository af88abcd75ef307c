import { fileURLToPath } from "node:url";
import type { Freestyle as Freestyle2 } from "freestyle-0.2";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import WebSocket from "ws";
import { deleteVm, keyClient, newAccount, system, type TestAccount, testIdentity, tokenClient } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { PtyCommand } from "../system/pty.ts";
import { expectRefusal, PACKAGE_63, type Sdk } from "../system/sdk.ts";
import { client2, Listener, pty2, pty63, TERMINAL_DEADLINE_MS } from "../system/terminals.ts";
import { wire } from "../system/wire.ts";

let account: TestAccount;
let owner: Sdk;
let vmId: string;
beforeAll(async () => {
  account = await newAccount();
  owner = keyClient(PACKAGE_63, account.apiKey);
  ({ vmId } = await owner.vms.create({ users: [{ name: "alice" }, { name: "bob" }] }));
});
afterAll(() => deleteVm(owner, vmId));
afterEach(async () => {
  const pty = pty63(owner, vmId);
  for (const { sessionId } of (await pty.list()).sessions) await pty.close({ sessionId });
});

const holderOf = async (allowedUsers?: string[]) => testIdentity(owner, [{ vmId, ...(allowedUsers && { allowedUsers }) }]);

describe("pty of freestyle 0.1.63", () => {
  test.each(["key", "token"] as const)("a %s opens a shell, writes, reads, resizes and sends signals", async (kind) => {
    const client = kind === "key" ? owner : tokenClient(PACKAGE_63, (await holderOf()).token);
    const heard = new Listener();
    const session = await pty63(client, vmId).open({ cols: 93, rows: 31, ...heard });
    expect(session.sessionId).toMatch(/^pty-\d+$/);
    session.write("id -un; stty size\n");
    await heard.shows(/root\r\n31 93\r\n/);
    session.resize({ cols: 120, rows: 40 });
    session.write("stty size; echo star''ted; sleep 1000\n");
    await heard.shows(/40 120\r\nstarted/);
    session.signal("SIGINT");
    session.write("echo $? an''swered\n");
    await heard.shows(/130 answered/);
    session.signal("SIGKILL");
    expect(await heard.exit()).toBe(137);
    await heard.close();
  });

  test("a session is listed, and can be closed while it runs and after it exited", async () => {
    const pty = pty63(owner, vmId);
    await pty.open({ sessionId: "long.1", exec: "sleep 1000", ...new Listener() });
    const heard = new Listener();
    await pty.open({ sessionId: "short", exec: "echo hello; exit 42", cols: 100, rows: 50, ...heard });
    expect(await heard.exit()).toBe(42);
    expect(heard.screen).toBe("hello\r\n");
    const { sessions } = await pty.list();
    expect(sessions).toMatchObject([
      {
        sessionId: "long.1",
        running: true,
        exec: "sleep 1000",
        attachedCount: 1,
        user: "root",
        suspended: false,
        cols: 80,
        rows: 24,
      },
      { sessionId: "short", running: false, exitCode: 42, exitedAtMs: expect.any(Number), cols: 100, rows: 50 },
    ]);
    expect(await pty.close({ sessionId: "short" })).toEqual({ sessionId: "short", exitCode: 42 });
    expect(await pty.close({ sessionId: "long.1" })).toEqual({ sessionId: "long.1" });
    expect((await pty.list()).sessions).toEqual([]);
  });

  test("detached, a session goes on, and attaching shows its scrollback first", async () => {
    const pty = pty63(owner, vmId);
    const before = new Listener();
    const session = await pty.open(before);
    session.write("kept=sa''me; echo $kept\n");
    await before.shows(/same/);
    session.detach();
    const after = new Listener();
    const again = await pty.attach({ sessionId: session.sessionId, ...after });
    await after.shows(/same/);
    again.write("echo it is the $kept one\n");
    await after.shows(/it is the same one/);
  });

  test("a socket that drops is reconnected by the SDK, and what was typed meanwhile arrives", async () => {
    const heard = new Listener();
    const session = await pty63(owner, vmId).open({ ...heard, reconnect: { baseDelayMs: 50 } });
    session.write("kept=sa''me; echo $kept\n");
    await heard.shows(/same/);
    (session as unknown as { ws: { close(): void } }).ws.close();
    await until("the SDK has noticed", TERMINAL_DEADLINE_MS, () => (heard.reconnecting > 0 ? true : undefined));
    session.write("echo it is the $kept one\n");
    await heard.shows(/it is the same one/);
  });

  test("user() opens that user's shell, and the sessions of others are out of reach", async () => {
    const alice = pty63(owner, vmId, "alice");
    const heard = new Listener();
    const session = await alice.open({ sessionId: "hers", ...heard });
    session.write("id -un; pwd\n");
    await heard.shows(/alice\r\n\/home\/alice/);
    await pty63(owner, vmId).open({ sessionId: "roots", ...new Listener() });
    const bob = pty63(owner, vmId, "bob");
    expect((await bob.list()).sessions).toEqual([]);
    expect((await alice.list()).sessions).toMatchObject([{ sessionId: "hers", user: "alice" }]);
    for (const sessionId of ["hers", "roots"]) {
      await expectRefusal(PACKAGE_63, bob.close({ sessionId }), "SessionUserMismatchError");
      await expect(bob.attach({ sessionId, ...new Listener(), reconnect: false })).rejects.toThrow();
    }
    await expectRefusal(PACKAGE_63, alice.close({ sessionId: "roots" }), "SessionUserMismatchError");
  });

  test("what cannot be is refused with the SDK's own classes", async () => {
    const pty = pty63(owner, vmId);
    await expectRefusal(PACKAGE_63, pty.close({ sessionId: "none" }), "SessionNotFoundError");
    await expectRefusal(PACKAGE_63, pty.close({ sessionId: "a b" }), "InvalidSessionIdError");
    await expectRefusal(PACKAGE_63, pty63(owner, "a".repeat(20)).list(), "VmNotFoundError");
    const stranger = keyClient(PACKAGE_63, (await newAccount()).apiKey);
    await expectRefusal(PACKAGE_63, pty63(stranger, vmId).list(), "VmNotFoundError");
    const limited = tokenClient(PACKAGE_63, (await holderOf(["alice"])).token);
    await expectRefusal(PACKAGE_63, pty63(limited, vmId).list(), "VmAccessDeniedError");
    for (const refused of [
      () => pty63(stranger, vmId).open(),
      () => pty63(limited, vmId).open(),
      () => pty.open({ sessionId: "a b" }),
      () => pty.open({ cols: 0 }),
      () => pty.attach({ sessionId: "none", reconnect: false }),
    ]) {
      await expect(refused()).rejects.toThrow("handshake");
    }
  });

  test.each(["its token is revoked", "its grant is revoked"])("when %s, a live socket is closed and says why", async (how) => {
    const { identity, token, tokenId } = await holderOf();
    const heard = new Listener();
    const session = await pty63(tokenClient(PACKAGE_63, token), vmId).open({ ...heard, reconnect: false });
    const bystander = new Listener();
    await pty63(owner, vmId).attach({ sessionId: session.sessionId, ...bystander });
    if (how === "its token is revoked") await identity.tokens.revoke({ tokenId });
    else await identity.permissions.vms.revoke({ vmId });
    expect(await heard.close()).toMatchObject({ code: 1008, reason: expect.stringMatching(/revoked/) });
    expect(bystander.closed).toBe(null);
  });

  test("a VM that sleeps keeps its sessions, shows them as suspended, and wakes when one is attached to", async () => {
    const pty = pty63(owner, vmId);
    const heard = new Listener();
    const session = await pty.open({ ...heard, reconnect: false });
    session.write("kept=sa''me; echo $kept\n");
    await heard.shows(/same/);
    await owner.vms.ref({ vmId }).suspend();
    expect((await pty.list()).sessions).toMatchObject([{ suspended: true, running: true }]);
    const after = new Listener();
    const again = await pty.attach({ sessionId: session.sessionId, ...after });
    again.write("echo it is the $kept one\n");
    await after.shows(/it is the same one/);
    expect((await pty.list()).sessions).toMatchObject([{ suspended: false }]);
  });
});

describe("pty of freestyle 0.2.17", () => {
  let client: Freestyle2;
  beforeAll(() => {
    client = client2({ apiKey: account.apiKey });
  });

  test.each(["key", "token"] as const)("a %s opens a shell, writes, reads, resizes and sends signals", async (kind) => {
    const by = kind === "key" ? client : client2({ identityAccessToken: (await holderOf()).token });
    const heard = new Listener();
    const session = await pty2(by, vmId).open({ linuxUser: "alice", ...heard });
    expect([session.sessionId > 0, session.created, session.slug]).toEqual([true, true, undefined]);
    session.write("id -un; stty size\n");
    await heard.shows(/alice\r\n24 80\r\n/);
    session.resize({ cols: 120, rows: 40 });
    session.write("stty size; echo star''ted; sleep 1000\n");
    await heard.shows(/40 120\r\nstarted/);
    session.signal("sigint");
    session.write("echo $? an''swered\n");
    await heard.shows(/130 answered/);
    session.signal("sigkill");
    expect(await heard.exit()).toBe(137);
  });

  test("a slug gets or creates: the second open runs nothing", async () => {
    const pty = pty2(client, vmId);
    const first = await pty.open({ slug: "main", exec: "echo first; exec sleep 1000", ...new Listener() });
    const heard = new Listener();
    const second = await pty.open({ slug: "main", exec: "echo second", ...heard });
    expect([first.created, second.created]).toEqual([true, false]);
    expect([second.sessionId, second.slug]).toEqual([first.sessionId, "main"]);
    await heard.shows(/first/);
    const attached = new Listener();
    await pty.attach({ session: "main", ...attached });
    await attached.shows(/first/);
    expect(await pty.list()).toMatchObject({ sessions: [{ sessionId: first.sessionId, slug: "main", state: "running" }] });
    expect(await pty.close("main")).toEqual({ sessionId: first.sessionId });
    expect((await pty.open({ slug: "main", exec: "sleep 1000", ...new Listener() })).created).toBe(true);
  });

  test("replaceOnExit starts the shell again in place", async () => {
    const heard = new Listener();
    const session = await pty2(client, vmId).open({ exec: "echo life; read line; exit 3", replaceOnExit: true, ...heard });
    await heard.shows(/life/);
    session.write("\n");
    await heard.shows(/life\r\n\r\nlife/);
    expect(heard.exits).toEqual([]);
    expect(await pty2(client, vmId).list()).toMatchObject({ sessions: [{ sessionId: session.sessionId, state: "running" }] });
  });

  test("an exited session is listed with its exit code, readable, and closed with it", async () => {
    const pty = pty2(client, vmId);
    const heard = new Listener();
    const { sessionId } = await pty.open({ exec: "echo bye; exit 9", ...heard });
    expect(await heard.exit()).toBe(9);
    expect(await pty.list()).toMatchObject({
      sessions: [{ sessionId, state: "exited", exitCode: 9, createdUnix: expect.any(Number) }],
    });
    const late = new Listener();
    await pty.attach({ session: sessionId, ...late });
    expect(await late.exit()).toBe(9);
    expect(late.screen).toBe("bye\r\n");
    expect(await pty.close(sessionId)).toEqual({ sessionId, exitCode: 9 });
  });

  test("linuxUser(): the sessions of others are out of reach", async () => {
    const { sessionId } = await client.vms
      .ref(vmId)
      .linuxUser("alice")
      .pty.open({ slug: "hers", ...new Listener() });
    const bob = client.vms.ref(vmId).linuxUser("bob").pty;
    expect((await bob.list()).sessions).toEqual([]);
    for (const session of [sessionId, "hers"]) {
      await expect(bob.close(session)).rejects.toMatchObject({ status: 404, code: "NOT_FOUND" });
      await expect(bob.attach({ session, ...new Listener() })).rejects.toThrow("404");
    }
  });

  test("what cannot be is refused on the upgrade with its status", async () => {
    const pty = pty2(client, vmId);
    const limited = client2({ identityAccessToken: (await holderOf(["alice"])).token });
    await expect(pty2(client2({ apiKey: "nonsense" }), vmId).open()).rejects.toThrow("401");
    await expect(pty2(limited, vmId).open()).rejects.toThrow("403");
    await expect(pty2(client, "a".repeat(20)).open()).rejects.toThrow("404");
    await expect(pty.open({ linuxUser: "mallory" })).rejects.toThrow("404");
    await expect(pty.open({ linuxUser: "../root" })).rejects.toThrow("400");
    await expect(pty.open({ slug: "123" })).rejects.toThrow("400");
    await expect(pty.open({ cols: 0 })).rejects.toThrow("400");
    await expect(pty.attach({ session: 4711 })).rejects.toThrow("404");
    expect((await pty.list()).sessions).toEqual([]);
  });

  test("when its token is revoked, a live socket hears why and is closed", async () => {
    const { identity, token, tokenId } = await holderOf();
    const heard = new Listener();
    await pty2(client2({ identityAccessToken: token }), vmId).open(heard);
    await identity.tokens.revoke({ tokenId });
    await heard.close();
    expect(String(heard.errors[0])).toMatch(/revoked/);
  });

  test("the CLI's vm ssh is a shell that ends with the shell's exit code", async () => {
    const cli = fileURLToPath(new URL("../../node_modules/freestyle-0.2/dist/cli/index.js", import.meta.url));
    const words = [process.execPath, cli, "--proxy", system.apiUrl, "vm", "ssh", vmId, "--linux-user", "alice"];
    vi.stubEnv("FREESTYLE_API_KEY", account.apiKey);
    const shell = new PtyCommand(words, "stty rows 31 cols 93");
    vi.unstubAllEnvs();
    try {
      await shell.expect(/alice@[^\n]*\$ /);
      shell.type("stty size; id -un");
      await shell.expect(/31 93\r+\nalice/);
      shell.type("exit 7");
      expect(await shell.exitCode()).toBe(7);
    } finally {
      await shell.kill();
    }
  });
});

describe("a browser's ticket", () => {
  const url = () => `${system.apiUrl.replace("http", "ws")}/v5/vms/${vmId}/pty`;
  const mint = async (): Promise<string> => {
    const { token } = await holderOf();
    const answer = await wire("POST", `/v5/vms/${vmId}/terminal-ticket`, { token }, { linuxUser: "alice" });
    expect(answer.status).toBe(200);
    return String(answer.json.ticket);
  };
  const outcome = (socket: WebSocket) =>
    new Promise<string>((resolve) => {
      socket.once("message", (data) => resolve(`message ${String(data)}`));
      socket.once("error", (error) => resolve(error.message));
    });

  test.each([
    ["in the query", (ticket: string) => new WebSocket(`${url()}?ticket=${ticket}`)],
    ["as a subprotocol", (ticket: string) => new WebSocket(url(), [`postern-ticket.${ticket}`])],
    ["as a subprotocol beside another", (ticket: string) => new WebSocket(url(), ["terminal", `postern-ticket.${ticket}`])],
  ])("%s opens one terminal, once", async (_how, connect) => {
    const ticket = await mint();
    const socket = connect(ticket);
    expect(await outcome(socket)).toContain("sessionInfo");
    socket.terminate();
    expect(await outcome(connect(ticket))).toBe("Unexpected server response: 401");
  });
});

test("both SDKs see and use the same sessions", async () => {
  const session = await pty63(owner, vmId).open({ sessionId: "shared", ...new Listener() });
  const [row] = (await pty2(client2({ apiKey: account.apiKey }), vmId).list()).sessions;
  expect(row).toMatchObject({ state: "running", linuxUser: "root" });
  const heard = new Listener();
  const other = await pty2(client2({ apiKey: account.apiKey }), vmId).attach({ session: row?.sessionId ?? 0, ...heard });
  other.write("echo to''gether\n");
  await heard.shows(/together/);
  session.detach();
});
