import { once } from "node:events";
import { beforeAll, describe, expect, test } from "vitest";
import { startGuestWeb } from "../system/guest-web.ts";
import { until } from "../system/poll.ts";
import { sshSetting } from "../system/ssh-fixture.ts";
import { visit, visitSocket } from "../system/visit.ts";
import { wire } from "../system/wire.ts";

const setting = sshSetting();
const withToken = () => ({ "x-freestyle-identity-access-token": setting().token });
const page = async () => {
  const { status, body } = await visit(setting().vmId, "/", { headers: withToken() });
  return `${status} ${body}`;
};

beforeAll(async () => {
  await startGuestWeb(setting().vm);
  await until("the guest's server answers", 20_000, async () => ((await page()).startsWith("200 pid ") ? true : undefined));
});

describe("a VM's own name over HTTP", () => {
  test("leads to the server in the guest, which sees the name, the trace id and no token", async () => {
    const { vmId, token } = setting();
    const { status, headers, body } = await visit(vmId, "/head", { headers: withToken() });
    expect(status).toBe(200);
    const head = body.toString().toLowerCase();
    expect(head).toContain(`host: ${vmId}.vm.localhost`);
    expect(head).toContain(`x-freestyle-trace-id: ${headers["x-freestyle-trace-id"]}`);
    expect(head).toContain("x-forwarded-for: 127.0.0.1");
    for (const secret of [token, "authorization", "postern-", "identity-access"]) expect(head).not.toContain(secret);
  });

  test("carries large bodies in, and compressed answers out as they are", async () => {
    const counted = await visit(setting().vmId, "/count", { method: "POST", headers: withToken(), body: Buffer.alloc(5_000_000) });
    expect(counted.body.toString()).toBe("5000000");
    const zipped = await visit(setting().vmId, "/gzip", { headers: { ...withToken(), "accept-encoding": "gzip" } });
    expect(zipped.headers["content-encoding"]).toBe("gzip");
    expect(zipped.body.subarray(0, 2)).toEqual(Buffer.from([0x1f, 0x8b]));
  });

  test("carries WebSockets", async () => {
    const socket = visitSocket(setting().vmId, "/", withToken());
    await once(socket, "open");
    socket.send("hello");
    expect(String((await once(socket, "message"))[0])).toBe("hello");
    socket.terminate();
  });

  test("is woken by the first visitor who may enter, finds its server as it was, and not by one who may not", async () => {
    const { vm, vmId } = setting();
    const before = await page();
    await vm.suspend();
    expect((await visit(vmId, "/")).status).toBe(401);
    expect(await vm.getInfo()).toMatchObject({ state: "suspended" });
    expect(await page()).toBe(before);
  });

  test("opens to a browser by a signed link, whose cookie reaches no guest", async () => {
    const { vmId, token } = setting();
    const { json } = await wire("POST", `/v1/vms/${vmId}/http-link`, { token }, { path: "/head" });
    const link = new URL(String(json.url));
    const entered = await visit(vmId, link.pathname + link.search);
    expect([entered.status, entered.headers.location]).toEqual([303, "/head"]);
    const cookie = entered.headers["set-cookie"]?.[0]?.split(";")[0] ?? "";
    const { status, body } = await visit(vmId, "/head", { headers: { cookie } });
    expect(status).toBe(200);
    expect(body.toString().toLowerCase()).not.toContain("cookie");
    const socket = visitSocket(vmId, "/", { cookie });
    await once(socket, "open");
    socket.terminate();
  });
});
