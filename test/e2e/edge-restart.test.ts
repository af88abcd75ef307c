import { mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { ApiClient } from "../../bin/operator.ts";
import { keyClient, newAccount, testIdentity, testVm, tokenClient } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { findDescendant } from "../system/processes.ts";
import { RunningSystem } from "../system/running-system.ts";
import { PACKAGE_63 } from "../system/sdk.ts";
import { SshClient } from "../system/ssh-client.ts";
import { client2, Listener, pty2, pty63, TERMINAL_DEADLINE_MS } from "../system/terminals.ts";

/** Whole systems start and stop here. */
const TIMEOUT_MS = 5 * 60_000;

const folder = mkdtempSync(join(tmpdir(), "postern-test-"));
let own: RunningSystem;
beforeAll(async () => {
  own = await RunningSystem.start({ home: join(realpathSync(folder), "home") });
}, TIMEOUT_MS);
afterAll(async () => {
  await own.stop();
  rmSync(folder, { recursive: true });
}, TIMEOUT_MS);

function isNoRoom(error: unknown): undefined {
  if (!String(error).includes("No host has room")) throw error;
}

test(
  "terminal sessions survive the edge's death: 0.1.63 comes back by itself, 0.2 attaches again, and a token revoked meanwhile does not",
  async () => {
    const { access } = own;
    const account = await newAccount(access);
    const owner = keyClient(PACKAGE_63, account.apiKey, access);
    const { vmId } = await testVm(owner);
    const { identity, token, tokenId } = await testIdentity(owner, [{ vmId }]);
    const heard = new Listener();
    // Its first try must find the edge back: after one that fails, 0.1.63 goes on in two loops that get in each other's way.
    const session = await pty63(owner, vmId).open({ ...heard, reconnect: { baseDelayMs: 8_000 } });
    session.write("kept=sa''me; echo $kept\n");
    await heard.shows(/same/);
    const other = new Listener();
    const byToken = pty63(tokenClient(PACKAGE_63, token, access), vmId);
    await byToken.attach({ sessionId: session.sessionId, ...other, reconnect: false });
    await other.shows(/same/);

    process.kill(findDescendant(access.pid, "workerd"), "SIGKILL");
    await other.close();
    await until("the SDK has noticed", TERMINAL_DEADLINE_MS, () => (heard.reconnecting > 0 ? true : undefined));
    session.write("echo it is the $kept one\n");
    await heard.shows(/it is the same one/);

    const pty = pty2(client2({ apiKey: account.apiKey }, access.apiUrl), vmId);
    expect((await pty.list()).sessions).toMatchObject([{ state: "running" }]);
    const again = new Listener();
    await pty.attach({ session: (await pty.list()).sessions[0]?.sessionId ?? 0, ...again });
    await again.shows(/it is the same one/);
    await identity.tokens.revoke({ tokenId });
    await expect(byToken.attach({ sessionId: session.sessionId, reconnect: false })).rejects.toThrow("handshake");
  },
  TIMEOUT_MS,
);

test(
  "a background request survives the edge's death: what ended meanwhile is answered to who may still see it, and to nobody else",
  async () => {
    const { access } = own;
    const account = await newAccount(access);
    const { vmId } = await testVm(keyClient(PACKAGE_63, account.apiKey, access));
    const call = (path: string, init: RequestInit = {}, apiKey = account.apiKey) =>
      fetch(`${access.apiUrl}/v5/${path}`, {
        ...init,
        headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json", ...init.headers },
      });
    const begun = await call(`vms/${vmId}/exec-await`, {
      method: "POST",
      headers: { "x-freestyle-background-after-secs": "0" },
      body: JSON.stringify({ command: "while [ ! -e /tmp/go ]; do sleep 0.1; done; echo kept", linuxUser: "root" }),
    });
    expect(begun.status).toBe(202);
    const path = `background-requests/${begun.headers.get("x-freestyle-background-request-id")}`;
    expect((await call(path)).status).toBe(202);

    process.kill(findDescendant(access.pid, "workerd"), "SIGKILL");
    // While the edge is away nothing answers, and then none of its hosts for a moment.
    await until("the edge and its host are back", TIMEOUT_MS, async () => {
      const body = JSON.stringify({ command: "touch /tmp/go" });
      return (await call(`vms/${vmId}/exec-await`, { method: "POST", body })).ok || undefined;
    });
    const ended = await until("the command has ended", TERMINAL_DEADLINE_MS, async () => {
      const answer = await call(path);
      return answer.status === 202 ? undefined : answer;
    });
    expect(await ended.json()).toMatchObject({ stdout: "kept\n", statusCode: 0 });
    const stranger = await newAccount(access);
    expect((await call(path, {}, stranger.apiKey)).status).toBe(404);
  },
  TIMEOUT_MS,
);

test(
  "a ticket that was minted before logs in while the whole edge stands still, and none of a withdrawn key does, with its own reason in the log",
  async () => {
    const { access } = own;
    const { apiKey } = await newAccount(access);
    // The test before may have killed the edge a moment ago: then its host has to say first what room it has.
    const { vmId } = await until("its host takes VMs", TERMINAL_DEADLINE_MS, () =>
      testVm(keyClient(PACKAGE_63, apiKey, access), { users: [{ name: "alice" }] }).catch(isNoRoom),
    );
    const api = new ApiClient(access.apiUrl, apiKey);
    const mint = () => api.request<{ ticket: string; user: string }>("POST", `/v5/vms/${vmId}/ssh-ticket`, { linuxUser: "alice" });
    const ssh = new SshClient(access);
    onTestFinished(() => ssh.close());
    const { ticket, user } = await mint();
    const workerd = findDescendant(access.pid, "workerd");
    process.kill(workerd, "SIGSTOP");
    try {
      expect(await ssh.sshAnswering(user, ticket, "id -un; exit 3")).toMatchObject({ code: 3, stdout: Buffer.from("alice\n") });
    } finally {
      process.kill(workerd, "SIGCONT");
    }
    const old = await mint();
    await new ApiClient(access.apiUrl, access.operatorKey).request("POST", "/operator/v1/signing-keys/void");
    const refused = () => {
      const log = readFileSync(join(access.home, "logs", "forwarder.log"), "utf8");
      return log.match(/"message":"ticket refused".*"reason":"(.*)"/)?.[1];
    };
    expect(await ssh.sshAnswering(user, old.ticket, "id")).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
    // `npm start` passes its parts' lines on to the file; the client may have its answer sooner.
    expect(await until("the log says why", TERMINAL_DEADLINE_MS, refused)).toBe("voided-key");
    const { ticket: next } = await mint();
    expect(await ssh.sshAnswering(user, next, "id -un")).toMatchObject({ code: 0, stdout: Buffer.from("alice\n") });
  },
  TIMEOUT_MS,
);
