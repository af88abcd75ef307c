import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { failed, guestSays, type ServedCall } from "./support/stub-host.ts";
import { type Call, call, type Identity, must, newAccount, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

const ABSENT = "a".repeat(20);

let world: World;
let vmId: string;
let publicVm: string;
let foreign: string;
let identity: Identity;
beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account);
  foreign = await newVm(await newAccount());
  const ports = [
    { port: 443, targetPort: 4000 },
    { port: 8081, targetPort: 4001 },
  ];
  publicVm = await newVm(world.account, { ports });
});
beforeEach(async () => {
  identity = await newIdentity(world.account, [vmId]);
});

const nameOf = (label: string, path = "/") => `https://${label}.vm.localhost${path}`;
const visit = (label: string, path = "/", options: Call = {}) => call(nameOf(label, path), options);

/** What the host was asked on behalf of the last visitor. */
function served(): ServedCall {
  const last = world.host.calls.at(-1);
  if (last === undefined) throw new Error("the host was asked nothing");
  return last;
}

/** Status, headers and body, without the trace id. */
async function bytesOf(response: Response): Promise<string> {
  const headers = [...response.headers].filter(([name]) => name !== "x-freestyle-trace-id");
  return `${response.status} ${JSON.stringify(headers)} ${await response.text()}`;
}

async function mintLink(shown: Call, body: object = {}, vm = vmId): Promise<URL> {
  const { url } = await must<{ url: string }>(`/v1/vms/${vm}/http-link`, { method: "POST", body, ...shown });
  return new URL(url);
}

/** Opens a link and answers the cookie that it set. */
async function cookieOf(link: URL): Promise<string> {
  const response = await call(link.href);
  expect(response.status).toBe(303);
  return (response.headers.get("set-cookie") ?? "").split(";")[0] ?? "";
}

describe("a VM's name", () => {
  it("leads a token's holder to port 3000 of the guest, path and query untouched", async () => {
    const response = await visit(vmId, "/a%2Fb/%20c?q=1&q=%2F", { token: identity.token });
    expect([response.status, await response.text()]).toEqual([200, "a page"]);
    expect(served()).toMatchObject({ method: "GET", path: `/vms/${vmId}/http/3000/a%2Fb/%20c`, search: "?q=1&q=%2F" });
    expect(served().claims).toMatchObject({ op: "http", user: null, vm: vmId, azp: "edge", cred: identity.tokenId });
  });

  it("with a port leads to that port, to the owner by API key as well", async () => {
    expect((await visit(`${vmId}-8000`, "/", { key: world.account.key })).status).toBe(200);
    expect(served().path).toBe(`/vms/${vmId}/http/8000/`);
  });

  it("passes on any method with its body, and the guest's own status, headers and cookies", async () => {
    const headers = new Headers([
      ["set-cookie", "a=1"],
      ["set-cookie", "b=2"],
      ["x-guest", "yes"],
      ["cache-control", "public"],
      ["postern-trick", "1"],
    ]);
    world.host.answerNext(() => guestSays("made", { status: 418, headers }));
    const response = await visit(vmId, "/", { method: "PATCH", token: identity.token, body: "some bytes" });
    expect(response.status).toBe(418);
    expect(response.headers.getSetCookie()).toEqual(["a=1", "b=2"]);
    expect(response.headers.get("cache-control")).toBe("public");
    expect([...response.headers.keys()].filter((name) => name.startsWith("postern-"))).toEqual([]);
    expect([served().method, new TextDecoder().decode(served().body)]).toEqual(["PATCH", "some bytes"]);
  });

  it("is the guest's even where the API has a route of that path", async () => {
    expect(await (await visit(vmId, "/v1/vms", { token: identity.token })).text()).toBe("a page");
    expect((await visit(vmId, "/healthz")).status).toBe(401);
  });

  it("adds no cache rule of ours to the guest's answer, but a trace id", async () => {
    const response = await visit(vmId, "/", { token: identity.token });
    expect(response.headers.get("cache-control")).toBeNull();
    expect(response.headers.get("x-freestyle-trace-id")).toBe(served().headers.get("x-freestyle-trace-id"));
  });

  it("joins WebSockets, with the subprotocol that the guest chose", async () => {
    world.host.answerNext(() => {
      const { 0: ours, 1: theirs } = new WebSocketPair();
      theirs.accept();
      theirs.send("hello");
      return new Response(null, { status: 101, webSocket: ours, headers: { "sec-websocket-protocol": "chat" } });
    });
    const headers = { upgrade: "websocket", "sec-websocket-protocol": "chat, other" };
    const response = await visit(vmId, "/socket?room=1", { token: identity.token, headers });
    expect([response.status, response.headers.get("sec-websocket-protocol")]).toEqual([101, "chat"]);
    expect(served().headers.get("sec-websocket-protocol")).toBe("chat, other");
    const heard = new Promise((resolve) => response.webSocket?.addEventListener("message", ({ data }) => resolve(data)));
    response.webSocket?.accept();
    expect(await heard).toBe("hello");
  });

  it("gets one more try with a new ticket when the host says that the verdict is stale", async () => {
    world.host.answerNext(() => failed("stale-epoch", "old"));
    expect((await visit(vmId, "/", { token: identity.token })).status).toBe(200);
  });

  it("says in the /v5 dialect what kept the host or the guest from answering", async () => {
    world.host.answerNext(() => failed("guest-unreachable", "Nothing listens."));
    const response = await visit(vmId, "/", { token: identity.token });
    expect([response.status, await response.json()]).toMatchObject([502, { code: "BAD_GATEWAY", message: "Nothing listens." }]);
  });
});

describe("the guest never sees", () => {
  const secretOf = ({ headers, path, search }: ServedCall, secret: string) =>
    [...headers].filter(([name]) => name !== "authorization").some(([, value]) => value.includes(secret)) ||
    (path + search).includes(secret);

  it("an access token or API key, wherever the visitor put it", async () => {
    await visit(vmId, "/", { token: identity.token });
    expect(secretOf(served(), identity.token)).toBe(false);
    await visit(vmId, "/", { key: world.account.key });
    expect(secretOf(served(), world.account.key)).toBe(false);
    await visit(vmId, "/", { token: identity.token, key: world.account.key });
    expect(secretOf(served(), world.account.key)).toBe(false);
  });

  it("the cookie of a signed link, among cookies of its own that it does see", async () => {
    const cookie = await cookieOf(await mintLink({ token: identity.token }));
    await visit(vmId, "/", { headers: { cookie: `one=1; ${cookie}; two=2` } });
    expect(served().headers.get("cookie")).toBe("one=1; two=2");
    expect(secretOf(served(), cookie.slice(cookie.indexOf("=") + 1))).toBe(false);
  });

  it("what a visitor claims about itself: the edge says where it came from", async () => {
    const forged = {
      "x-forwarded-for": "1.2.3.4",
      "x-forwarded-host": "evil.test",
      forwarded: "for=1.2.3.4",
      "x-real-ip": "1.2.3.4",
    };
    await visit(vmId, "/", { token: identity.token, headers: { ...forged, "postern-guest-authorization": "Bearer x" } });
    const { headers } = served();
    expect(headers.get("x-forwarded-for")).toBeNull();
    expect(headers.get("x-forwarded-host")).toBe(`${vmId}.vm.localhost`);
    expect(headers.get("x-forwarded-proto")).toBe("https");
    expect([headers.get("forwarded"), headers.get("x-real-ip"), headers.get("postern-guest-authorization")]).toEqual([
      null,
      null,
      null,
    ]);
  });

  it("but its own Authorization, which is none of ours", async () => {
    await visit(vmId, "/", { token: identity.token, headers: { authorization: "Bearer eyJ.of.its.own" } });
    expect(served().headers.get("postern-guest-authorization")).toBe("Bearer eyJ.of.its.own");
  });

  it("headers that end at this hop", async () => {
    await visit(vmId, "/", { token: identity.token, headers: { connection: "x-private", "x-private": "1", te: "trailers" } });
    expect([served().headers.get("x-private"), served().headers.get("te")]).toEqual([null, null]);
  });
});

describe("nobody gets in, and nothing is woken,", () => {
  const untouched = async (act: () => Promise<void>) => {
    const before = world.host.calls.length;
    await act();
    expect(world.host.calls.length).toBe(before);
  };

  it("without a credential: the same bytes for a private VM, another account's and one that does not exist", () =>
    untouched(async () => {
      const answers = await Promise.all(
        [vmId, foreign, ABSENT, `${vmId}-80`, `${ABSENT}-80`].map((label) => visit(label).then(bytesOf)),
      );
      expect(answers[0]).toMatch(/^401 /);
      expect(new Set(answers).size).toBe(1);
    }));

  it("with a token that was not granted the VM: the same bytes as for one that does not exist", () =>
    untouched(async () => {
      const other = await newIdentity(world.account);
      const answers = await Promise.all(
        [vmId, ABSENT, "not-a-vm"].map((label) => visit(label, "/", { token: other.token }).then(bytesOf)),
      );
      expect(answers[0]).toMatch(/^404 /);
      expect(new Set(answers).size).toBe(1);
    }));

  it("with another account's API key", () =>
    untouched(async () => {
      const { key } = await newAccount();
      expect((await visit(vmId, "/", { key })).status).toBe(404);
    }));

  it("with a revoked token, or one that is malformed", () =>
    untouched(async () => {
      const path = `/identity/v1/identities/${identity.id}/tokens/${identity.tokenId}`;
      await must(path, { method: "DELETE", key: world.account.key });
      expect((await visit(vmId, "/", { token: identity.token })).status).toBe(401);
      expect((await visit(vmId, "/", { token: "pst_nonsense" })).status).toBe(401);
    }));

  it("with a head that is too large", () =>
    untouched(async () => {
      const headers = { "x-long": "x".repeat(40_000) };
      expect((await visit(vmId, "/", { token: identity.token, headers })).status).toBe(431);
    }));

  it.each(["", "-", `${ABSENT}-0`, `${ABSENT}-65536`, `${ABSENT}-080`, `${ABSENT}.x`, `x.${ABSENT}`, `${ABSENT}-1-2`])(
    "by the name %j, which is no VM's",
    (label) =>
      untouched(async () => expect((await call(`https://x${label}.vm.localhost/`, { token: identity.token })).status).toBe(404)),
  );
});

describe("a public port", () => {
  it("is everybody's, by the name that leads to it and by its own number", async () => {
    expect((await visit(publicVm)).status).toBe(200);
    expect(served()).toMatchObject({ path: `/vms/${publicVm}/http/4000/`, claims: { cred: "public", user: null, op: "http" } });
    expect((await visit(`${publicVm}-4001`)).status).toBe(200);
    expect((await call(`https://${publicVm}.vm.localhost:8081/`)).status).toBe(200);
    expect(served().path).toBe(`/vms/${publicVm}/http/4001/`);
  });

  it("opens no other port of its VM", async () => {
    expect((await visit(`${publicVm}-22`)).status).toBe(401);
    expect((await visit(`${publicVm}-3000`)).status).toBe(401);
  });

  it("is private again as soon as its owner says so, and the record shows which there are", async () => {
    const vm = await newVm(world.account, { ports: [{ port: 443, targetPort: 5000 }] });
    expect((await visit(vm)).status).toBe(200);
    const { key } = world.account;
    const shown = await must<{ ports: unknown }>(`/v5/vms/${vm}`, { method: "PATCH", key, body: { ports: [] } });
    expect(shown.ports).toEqual([]);
    expect((await visit(vm)).status).toBe(401);
  });

  it("goes on after a key of its account was revoked", async () => {
    const account = await newAccount();
    const vm = await newVm(account, { ports: [{ port: 443, targetPort: 5000 }] });
    world.host.answerNext(() => failed("stale-epoch", "old"));
    expect((await visit(vm)).status).toBe(200);
  });

  it("is gone with its VM, in the same bytes as one that never was", async () => {
    const vm = await newVm(world.account, { ports: [{ port: 443, targetPort: 5000 }] });
    await must(`/v1/vms/${vm}`, { method: "DELETE", key: world.account.key });
    expect(await visit(vm).then(bytesOf)).toBe(await visit(ABSENT).then(bytesOf));
  });
});

describe("a signed link", () => {
  it("sets a cookie that scripts cannot read, and leads to the clean URL", async () => {
    const link = await mintLink({ token: identity.token }, { path: "/page?x=1", expiresInSeconds: 60 });
    expect(link.origin).toBe(nameOf(vmId).slice(0, -1));
    const response = await call(link.href);
    expect(response.status).toBe(303);
    expect(response.headers.get("location")).toBe("/page?x=1");
    expect(response.headers.get("referrer-policy")).toBe("no-referrer");
    expect(response.headers.get("set-cookie")).toMatch(
      /^__Host-postern-http=\S+; Secure; Path=\/; HttpOnly; SameSite=Lax; Expires=/,
    );
  });

  it("opens the VM to whoever has its cookie, and asks whether its token may each time", async () => {
    const cookie = await cookieOf(await mintLink({ token: identity.token }));
    expect((await visit(vmId, "/", { headers: { cookie } })).status).toBe(200);
    expect(served().claims).toMatchObject({ cred: identity.tokenId, op: "http" });
    const path = `/identity/v1/identities/${identity.id}/permissions/vm/${vmId}`;
    await must(path, { method: "DELETE", key: world.account.key });
    expect((await visit(vmId, "/", { headers: { cookie } })).status).toBe(401);
  });

  it("of an API key opens its account's VM", async () => {
    const cookie = await cookieOf(await mintLink({ key: world.account.key }, { port: 8000 }));
    expect((await visit(`${vmId}-8000`, "/", { headers: { cookie } })).status).toBe(200);
  });

  it("opens neither another port, nor another VM, nor anything after it was changed or has expired", async () => {
    const link = await mintLink({ token: identity.token });
    const cookie = await cookieOf(link);
    const other = await newVm(world.account);
    for (const label of [`${vmId}-8000`, other]) {
      expect((await visit(label, "/", { headers: { cookie } })).status).toBe(401);
      expect((await call(nameOf(label, link.pathname + link.search))).status).toBe(401);
    }
    const short = await mintLink({ token: identity.token }, { expiresInSeconds: 1 });
    await expect.poll(async () => (await call(short.href)).status, { timeout: 5_000 }).toBe(401);
    link.searchParams.set("postern-link", `${link.searchParams.get("postern-link")}x`);
    expect((await call(link.href)).status).toBe(401);
  });

  it("leads nowhere else, whatever its path", async () => {
    const link = await mintLink({ token: identity.token });
    const response = await call(`${link.origin}//evil.test/${link.search}`);
    expect(response.headers.get("location")).toBe("/.//evil.test/");
  });

  it("cannot be minted for a VM that was not granted, with a life that is too long, or with a path that leads away", async () => {
    const mint = async (body: object, vm = vmId) =>
      (await call(`/v5/vms/${vm}/http-link`, { method: "POST", token: identity.token, body })).status;
    expect(await mint({}, publicVm)).toBe(404);
    expect(await mint({ expiresInSeconds: 8 * 24 * 3600 })).toBe(400);
    expect(await mint({ path: "@evil.test/" })).toBe(400);
    expect(await mint({ port: 0 })).toBe(400);
  });

  it("gives its cookie no power over requests that another page sends", async () => {
    const cookie = await cookieOf(await mintLink({ token: identity.token }));
    const status = async (headers: Record<string, string>) => (await visit(vmId, "/", { headers: { cookie, ...headers } })).status;
    expect(await status({ origin: nameOf(ABSENT).slice(0, -1) })).toBe(401);
    expect(await status({ origin: "null" })).toBe(401);
    expect(await status({ "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors" })).toBe(401);
    expect(await status({ origin: nameOf(vmId).slice(0, -1), "sec-fetch-site": "same-origin" })).toBe(200);
    expect(await status({ "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" })).toBe(200);
  });
});
