import { request } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ApiRefusal } from "../../bin/operator.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { until } from "../system/poll.ts";
import {
  grantPath,
  type Holder,
  longSession,
  newHolder,
  newVm,
  type OwnerAccount,
  RegionalSystem,
  type RegionName,
} from "./regional-system.ts";

/** The promise with the feed up (`docs/consistency.md`), and that of a dead host. */
const REVOKED_MS = 2_000;
const DEAD_KNOWN_MS = 15_000;
const SLOW_MACHINE_MS = 30_000;
const START_MS = 120_000;

let system: RegionalSystem;
let owner: OwnerAccount;
let vms: Readonly<Record<RegionName, string>>;
beforeAll(async () => {
  system = await RegionalSystem.start();
  owner = await system.newAccount();
  const [eu, us] = await Promise.all([newVm(owner, "eu"), newVm(owner, "us")]);
  vms = { eu, us };
}, START_MS);
afterAll(() => system.stop(), START_MS);

/** The host that a region's VMs of this test are on, as the operator sees it. */
async function hostOfUs(): Promise<{ id: string; url: string; down: boolean }> {
  const [host] = await system.hostsOf("us");
  return host ?? expect.fail("the region has no host");
}

test("a VM is made in the region that is asked for and entered by that region's forwarder; another's says where to go", async () => {
  const { token } = await newHolder(owner, [vms.eu, vms.us]);
  for (const region of system.all) {
    const own = await region.ssh.ssh(`${vms[region.name]}:${token}`, "hostname");
    expect(own, own.stderr).toMatchObject({ code: 0, stdout: Buffer.from(`${vms[region.name]}\n`) });
  }
  const wrong = await system.regions.eu.ssh.ssh(`${vms.us}:${token}`, "hostname");
  expect(wrong).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
  expect(wrong.stderr).toContain('This VM is in the region "us": connect to the SSH gateway of that region.');
});

test("a ticket for a VM of one region is refused by another region's forwarder, and its log names why", async () => {
  const { eu, us } = system.regions;
  const { ticket } = await owner.api.request<{ ticket: string }>("POST", `/v5/vms/${vms.eu}/ssh-ticket`, {});
  expect(await us.ssh.sshAnswering(vms.eu, ticket, "hostname")).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
  expect(us.forwarder.log).toContain('"message":"ticket refused","component":"forwarder","reason":"audience"');
  // It was not used up by that.
  expect(await eu.ssh.sshAnswering(vms.eu, ticket, "hostname")).toMatchObject({ code: 0, stdout: Buffer.from(`${vms.eu}\n`) });
});

const narrowings: [string, (holder: Holder) => Promise<unknown>][] = [
  ["token", ({ identityId, tokenId }) => owner.api.request("DELETE", `/identity/v1/identities/${identityId}/tokens/${tokenId}`)],
  [
    "grant",
    async ({ identityId }) => {
      for (const vmId of Object.values(vms)) await owner.api.request("DELETE", grantPath(identityId, vmId));
    },
  ],
  ["identity", ({ identityId }) => owner.api.request("DELETE", `/identity/v1/identities/${identityId}`)],
  ["account", () => system.edge.operator.request("POST", `/operator/v1/accounts/${owner.accountId}/suspend`)],
];

test.each(narrowings)(
  "who loses the %s is refused by the hosts of both regions within 2 s, and live SSH is cut at both forwarders",
  async (_what, narrow) => {
    const holder = await newHolder(owner, Object.values(vms));
    const sessions = system.all.map((region) => longSession(region, vms[region.name], holder.token));
    try {
      for (const session of sessions) {
        await until("the session is live", SLOW_MACHINE_MS, () => (session.output === "live\n" ? true : undefined));
      }
      // The edge knows the verdicts by now: only the hosts' floors can refuse them.
      for (const vmId of Object.values(vms)) expect((await system.exec(vmId, holder.token)).status).toBe(200);
      await narrow(holder);
      const narrowedAt = performance.now();
      const cut = Promise.all(sessions.map(async (session) => [await session.finished, performance.now() - narrowedAt] as const));
      for (const vmId of Object.values(vms)) {
        await until("the token is refused", SLOW_MACHINE_MS, async () =>
          [401, 403, 404].includes((await system.exec(vmId, holder.token)).status) ? true : undefined,
        );
      }
      expect(performance.now() - narrowedAt).toBeLessThan(REVOKED_MS);
      for (const [ended, ms] of await cut) {
        expect(ended).toMatchObject({ code: 255, stderr: expect.stringContaining("Your access to this VM was revoked") });
        expect(ms).toBeLessThan(REVOKED_MS);
      }
    } finally {
      for (const session of sessions) await session.kill();
      await system.edge.operator.request("POST", `/operator/v1/accounts/${owner.accountId}/resume`);
    }
  },
);

/** A client's ticket for SSH to a VM, minted now. */
async function sshTicket(vmId: string, token: string): Promise<{ ticket: string; user: string }> {
  const response = await fetch(`${system.edge.url}/v5/vms/${vmId}/ssh-ticket`, {
    method: "POST",
    headers: { "x-freestyle-identity-access-token": token, "content-type": "application/json" },
    body: "{}",
  });
  expect(response.status).toBe(200);
  return (await response.json()) as { ticket: string; user: string };
}

/** Shows a ticket to a host as a forwarder would. Answers the status, and what the host says where it refuses. */
function openTunnel(hostUrl: string, vmId: string, ticket: string): Promise<{ status: number; said: string }> {
  const { hostname, port } = new URL(hostUrl);
  const key = generateSshKeyPair(platformRandomBytes).publicKey;
  const headers = { "proxy-authorization": `Bearer ${ticket}`, "postern-ssh-key": key };
  const sent = request({ method: "CONNECT", hostname, port, path: `${vmId}:22`, headers });
  sent.end();
  // To Node any answer to a CONNECT is its head and a socket.
  return new Promise((resolve, reject) => {
    sent.once("error", reject);
    sent.once("connect", ({ statusCode = 0 }, socket, head) => {
      let said = head.toString();
      socket.on("data", (chunk: Buffer) => {
        said += chunk.toString();
      });
      socket.once("close", () => resolve({ status: statusCode, said }));
      if (statusCode === 200) socket.destroy();
    });
  });
}

test("a host and a forwarder that were dead while a token was revoked know that before they serve again", async () => {
  const [host] = system.regions.us.hosts;
  const { forwarder, ssh } = system.regions.us;
  const [revoked, standing] = await Promise.all([newHolder(owner, [vms.us]), newHolder(owner, [vms.us])]);
  await Promise.all([host?.end("SIGKILL"), forwarder.end("SIGKILL")]);
  // Tickets that outlive the token's end: nothing but the floor speaks against those of the revoked one.
  const [atHost, atForwarder] = await Promise.all([sshTicket(vms.us, revoked.token), sshTicket(vms.us, revoked.token)]);
  await owner.api.request("DELETE", `/identity/v1/identities/${revoked.identityId}/tokens/${revoked.tokenId}`);
  await Promise.all([host?.serve(), forwarder.serve()]);

  const { url } = await hostOfUs();
  const refused = await openTunnel(url, vms.us, atHost.ticket);
  expect(refused.said).toContain("stale-epoch");
  expect(refused.status).not.toBe(200);
  expect(await openTunnel(url, vms.us, (await sshTicket(vms.us, standing.token)).ticket)).toMatchObject({ status: 200 });

  const terminal = ssh.sshOnTerminal(atForwarder.user, [
    "-o",
    "PreferredAuthentications=password",
    "-o",
    "NumberOfPasswordPrompts=1",
  ]);
  await terminal.expectSecretPrompt();
  terminal.type(atForwarder.ticket);
  expect(await terminal.exitCode()).toBe(255);
  expect(terminal.screen).toContain("Access has changed since the ticket was made");
  // The guest went on without its agent, and is entered as before.
  const login = await ssh.ssh(`${vms.us}:${standing.token}`, "hostname");
  expect(login, login.stderr).toMatchObject({ code: 0 });
  // The edge may try the host's old address once.
  await until("the host is found again", SLOW_MACHINE_MS, async () => {
    const { status } = await system.exec(vms.us, standing.token);
    expect([200, 503]).toContain(status);
    return status === 200 ? true : undefined;
  });
}, 60_000);

test("a forwarder that is killed under load lets nobody in who may not: sessions die with it, and logins work when it is back", async () => {
  const { forwarder, ssh } = system.regions.eu;
  const [holder, revoked] = await Promise.all([newHolder(owner, [vms.eu]), newHolder(owner, [vms.eu])]);
  const live = longSession(system.regions.eu, vms.eu, holder.token);
  await until("the session is live", SLOW_MACHINE_MS, () => (live.output === "live\n" ? true : undefined));
  let isOver = false;
  const outcomes: (readonly [who: Holder, code: number | null, stdout: string, stderr: string])[] = [];
  const load = [holder, holder, revoked].map(async (who) => {
    while (!isOver) {
      const { code, stdout, stderr } = await ssh.ssh(`${vms.eu}:${who.token}`, "hostname");
      outcomes.push([who, code, stdout.toString(), stderr]);
      // Nobody there refuses at once: load, not a storm.
      if (code !== 0) await pause(100);
    }
  });
  let back = 0;
  try {
    await until("there is load", SLOW_MACHINE_MS, () => (outcomes.some(([who]) => who === revoked) ? true : undefined));
    await owner.api.request("DELETE", `/identity/v1/identities/${revoked.identityId}`);
    await forwarder.end("SIGKILL");
    expect(await live.finished).toMatchObject({ code: 255 });
    await forwarder.serve();
    back = outcomes.length;
    await until("logins work again", SLOW_MACHINE_MS, () =>
      outcomes.slice(back).some(([who, code]) => who === holder && code === 0) ? true : undefined,
    );
  } finally {
    isOver = true;
    await Promise.all(load);
  }
  // A session that runs through to its end gives its command's answer; any other ends as a lost connection, with a reason.
  for (const [, code, stdout, stderr] of outcomes) {
    expect(code === 0 ? stdout : stderr).not.toBe("");
    expect([0, 255]).toContain(code);
  }
  for (const [who, code, stdout] of outcomes.slice(back)) {
    if (who === revoked) expect([code, stdout]).toEqual([255, ""]);
  }
  const last = await ssh.ssh(`${vms.eu}:${revoked.token}`, "hostname");
  expect(last).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
});

test("one trace id names a create, a pause, a start and a delete at the edge and in the log of the VM's host", async () => {
  const traces: [string, string][] = [];
  const ask = async (asked: string, method: string, path: string, body?: object): Promise<{ id: string }> => {
    const headers = { authorization: `Bearer ${owner.apiKey}`, "content-type": "application/json" };
    const response = await fetch(`${system.edge.url}${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) });
    expect(response.status, path).toBeLessThan(300);
    traces.push([asked, response.headers.get("x-freestyle-trace-id") ?? ""]);
    return (await response.json()) as { id: string };
  };
  const { id } = await ask("PUT /vms/", "POST", "/v5/vms", { firewall: { rules: [] }, placement: { region: "eu" } });
  await ask("POST /suspend", "POST", `/v1/vms/${id}/suspend`);
  await ask("POST /start", "POST", `/v1/vms/${id}/start`, {});
  await ask("DELETE /vms/", "DELETE", `/v1/vms/${id}`);
  const lines = system.regions.eu.hosts.flatMap((host) => host.log.split("\n")).filter((line) => line.includes(id));
  for (const [asked, trace] of traces) {
    const [method = "", path = ""] = asked.split(" ");
    const found = lines.filter((one) => one.includes(`"method":"${method}"`) && one.includes(path) && one.includes(trace));
    expect(found, asked).toHaveLength(1);
  }
});

test("VMs of one spread group are on hosts of their own, a drained host gets none, and a region without a place says so", async () => {
  const noPlace = { status: 503, code: "UNAVAILABLE" } satisfies Pick<ApiRefusal, "status" | "code">;
  await expect(newVm(owner, "us")).rejects.toMatchObject(noPlace);
  const counts = async () => new Map((await system.hostsOf("eu")).map(({ id, vmCount }) => [id, vmCount]));
  const before = await counts();
  await Promise.all([newVm(owner, "eu", "apart"), newVm(owner, "eu", "apart")]);
  const after = await counts();
  expect([...after].map(([id, count]) => count - (before.get(id) ?? 0))).toEqual([1, 1]);
  await expect(newVm(owner, "eu", "apart")).rejects.toMatchObject(noPlace);

  const [drained = "", other = ""] = after.keys();
  await system.drain("eu", drained, true);
  await newVm(owner, "eu");
  expect(await counts()).toEqual(
    new Map([
      [drained, after.get(drained)],
      [other, (after.get(other) ?? 0) + 1],
    ]),
  );
  // What runs on it goes on.
  const { token } = await newHolder(owner, [vms.eu]);
  expect((await system.exec(vms.eu, token)).status).toBe(200);
  await system.drain("eu", other, true);
  await expect(newVm(owner, "eu")).rejects.toMatchObject(noPlace);
});

test("a host that dies is known within 15 s; its VMs answer 503 with code and reason at once, and the other region goes on", async () => {
  const { token } = await newHolder(owner, Object.values(vms));
  expect((await system.exec(vms.us, token)).status).toBe(200);
  await system.regions.us.hosts[0]?.end("SIGKILL");
  const diedAt = performance.now();
  const slowest: number[] = [];
  await until("the host counts as down", SLOW_MACHINE_MS, async () => {
    const { status, body, ms } = await system.exec(vms.us, token);
    slowest.push(ms);
    expect(status).toBe(503);
    return body.code === "HOST_DOWN" ? true : undefined;
  });
  expect(performance.now() - diedAt).toBeLessThan(DEAD_KNOWN_MS);
  const { status, body } = await system.exec(vms.us, token);
  expect({ status, body }).toMatchObject({ status: 503, body: { message: expect.stringMatching(/is down: it was last heard/) } });
  expect(Math.max(...slowest)).toBeLessThan(REVOKED_MS);
  const login = await system.regions.us.ssh.ssh(`${vms.us}:${token}`, "hostname");
  expect(login).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
  expect((await hostOfUs()).down).toBe(true);
  expect((await system.exec(vms.eu, token)).status).toBe(200);
});
