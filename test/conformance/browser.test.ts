import type * as sdk217 from "freestyle-0.2";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { deleteVm, keyClient, newAccount, system, type TestAccount, testIdentity } from "../system/fixture.ts";
import { PACKAGE_46, type Sdk, type SdkVm } from "../system/sdk.ts";
import { WebSite } from "../system/web-page.ts";
import { wire } from "../system/wire.ts";

/** 0.1.63 calls the browser's `fetch` as a method of its own, which browsers refuse: a page hands it one that may be. */
type Freestyle63 = new (options: { baseUrl: string; accessToken: string; fetch?: typeof fetch }) => Sdk;

/** What the page's scripts put beside the browser's own globals. */
interface PageGlobals {
  readonly sdk63: { readonly Freestyle: Freestyle63 };
  readonly sdk217: typeof sdk217;
}

/** What a page's code is given: it runs in the browser and sees nothing of this file. */
interface Given {
  readonly baseUrl: string;
  readonly token: string;
  readonly vmId: string;
}

const ABSENT_VM = "aaaaaaaaaaaaaaaaaaaa";

let site: WebSite;
let account: TestAccount;
let owner: Sdk;
let vm: SdkVm;
let vmId: string;
beforeAll(async () => {
  site = await WebSite.open();
  account = await newAccount();
  owner = keyClient(PACKAGE_46, account.apiKey);
  ({ vm, vmId } = await owner.vms.create({ users: [{ name: "alice" }, { name: "bob" }] }));
});
afterAll(async () => {
  await site.close();
  await deleteVm(owner, vmId);
});

async function openPage(): Promise<Page> {
  const page = await site.page();
  onTestFinished(() => page.close());
  return page;
}

/** Runs a function in the page. What it throws keeps its message only: its stack names the page, which is no file. */
async function inPage<Arg, Answer>(page: Page, act: (arg: Arg) => Answer | Promise<Answer>, arg: Arg): Promise<Answer> {
  try {
    return (await page.evaluate(act as (arg: unknown) => unknown, arg)) as Answer;
  } catch (error) {
    expect.fail(`in the page: ${error instanceof Error ? error.message : String(error)}`);
  }
}

const given = async (allowedUsers?: string[]): Promise<Given> => {
  const { token } = await testIdentity(owner, [{ vmId, ...(allowedUsers && { allowedUsers }) }]);
  return { baseUrl: system.apiUrl, token, vmId };
};

describe("freestyle 0.1.63 in a page of another origin", () => {
  test("runs commands and reads, writes and lists files with an access token, as the users it may", async () => {
    const page = await openPage();
    const seen = await inPage(
      page,
      async ({ baseUrl, token, vmId }) => {
        const { Freestyle } = (globalThis as unknown as PageGlobals).sdk63;
        const vm = new Freestyle({ baseUrl, accessToken: token, fetch: (input, init) => fetch(input, init) }).vms.ref({ vmId });
        const alice = vm.user({ username: "alice" });
        await alice.fs.writeTextFile("/home/alice/a b%.txt", "grüß dich");
        const failed = await alice.exec("echo out; echo err >&2; exit 3");
        return {
          failed: [failed.stdout, failed.stderr, failed.statusCode],
          who: [(await vm.exec("id -un")).stdout, (await alice.exec("id -un")).stdout],
          text: await vm.fs.readTextFile("/home/alice/a b%.txt"),
          names: (await alice.fs.readDir("/home/alice")).map(({ name }) => name),
          stat: (await vm.fs.stat("/home/alice/a b%.txt")).owner,
          exists: await vm.fs.exists("/home/alice/none"),
        };
      },
      await given(),
    );
    expect(seen).toMatchObject({
      failed: ["out\n", "err\n", 3],
      who: ["root\n", "alice\n"],
      text: "grüß dich",
      names: expect.arrayContaining(["a b%.txt"]),
      stat: "alice",
      exists: false,
    });
  });

  test("wakes a suspended VM", async () => {
    await vm.suspend();
    const page = await openPage();
    const stdout = await inPage(
      page,
      async ({ baseUrl, token, vmId }) => {
        const { Freestyle } = (globalThis as unknown as PageGlobals).sdk63;
        return (
          await new Freestyle({ baseUrl, accessToken: token, fetch: (input, init) => fetch(input, init) }).vms
            .ref({ vmId })
            .exec("echo awake")
        ).stdout;
      },
      await given(),
    );
    expect(stdout).toBe("awake\n");
    expect(await vm.getInfo()).toMatchObject({ state: "running" });
  });

  test("a refused call throws the package's own error, with the code", async () => {
    const page = await openPage();
    const refusals = await inPage(
      page,
      async ({ baseUrl, token, vmId, absent }) => {
        const { Freestyle } = (globalThis as unknown as PageGlobals).sdk63;
        const granted = new Freestyle({ baseUrl, accessToken: token, fetch: (input, init) => fetch(input, init) });
        const forged = new Freestyle({ baseUrl, accessToken: "pst_forged", fetch: (input, init) => fetch(input, init) });
        const calls = [
          () => forged.vms.ref({ vmId }).exec("id"),
          () => granted.vms.ref({ vmId }).exec("id"),
          () => granted.vms.ref({ vmId }).user({ username: "bob" }).exec("id"),
          () => granted.vms.ref({ vmId: absent }).exec("id"),
          () => granted.vms.ref({ vmId }).user({ username: "alice" }).fs.readTextFile("/none"),
          () => granted.vms.create({}),
          () => granted.vms.ref({ vmId }).delete(),
        ];
        const codes = [];
        for (const call of calls) {
          codes.push(
            await call().then(
              () => "no refusal",
              (error: { body?: { code?: string } }) => error.body?.code ?? String(error),
            ),
          );
        }
        return codes;
      },
      { ...(await given(["alice"])), absent: ABSENT_VM },
    );
    expect(refusals).toEqual([
      "UNAUTHORIZED_ERROR",
      "VM_ACCESS_DENIED",
      "VM_ACCESS_DENIED",
      "VM_NOT_FOUND",
      "FILE_NOT_FOUND",
      "FORBIDDEN",
      "FORBIDDEN",
    ]);
    expect(await vm.getInfo()).toMatchObject({ id: vmId });
  });
});

test("freestyle 0.1.63 sends nothing from a page that hands it no fetch: no server can mend that", async () => {
  const page = await openPage();
  const message = await inPage(
    page,
    async ({ baseUrl, token, vmId }) => {
      const { Freestyle } = (globalThis as unknown as PageGlobals).sdk63;
      const call = new Freestyle({ baseUrl, accessToken: token }).vms.ref({ vmId }).exec("id");
      return call.then(
        () => "sent",
        (error: Error) => error.message,
      );
    },
    await given(),
  );
  expect(message).toContain("Illegal invocation");
});

describe("freestyle 0.2.17 in a page of another origin", () => {
  test("runs commands and reads, writes and lists files with an access token, as the users it may", async () => {
    const page = await openPage();
    const seen = await inPage(
      page,
      async ({ baseUrl, token, vmId }) => {
        const { Freestyle } = (globalThis as unknown as PageGlobals).sdk217;
        const vm = new Freestyle({ baseUrl, identityAccessToken: token }).vms.ref(vmId);
        await vm.fs.writeFile("/root/a b%.bin", new Uint8Array([0, 128, 255]));
        const failed = await vm.linuxUser("alice").exec("id -un; echo err >&2; exit 3");
        return {
          failed: [failed.stdout, failed.stderr, failed.statusCode],
          bytes: [...(await vm.fs.readFile("/root/a b%.bin"))],
          names: (await vm.fs.readDir("/root")).map(({ name }) => name),
          exists: await vm.fs.exists("/root/none"),
        };
      },
      await given(),
    );
    expect(seen).toMatchObject({
      failed: ["alice\n", "err\n", 3],
      bytes: [0, 128, 255],
      names: expect.arrayContaining(["a b%.bin"]),
      exists: false,
    });
  });

  test("wakes a suspended VM", async () => {
    await vm.suspend();
    const page = await openPage();
    const stdout = await inPage(
      page,
      async ({ baseUrl, token, vmId }) => {
        const { Freestyle } = (globalThis as unknown as PageGlobals).sdk217;
        return (await new Freestyle({ baseUrl, identityAccessToken: token }).vms.ref(vmId).exec("echo awake")).stdout;
      },
      await given(),
    );
    expect(stdout).toBe("awake\n");
    expect(await vm.getInfo()).toMatchObject({ state: "running" });
  });

  test("a refused call throws the package's own error, with status and code", async () => {
    const page = await openPage();
    const refusals = await inPage(
      page,
      async ({ baseUrl, token, vmId, absent }) => {
        const { Freestyle } = (globalThis as unknown as PageGlobals).sdk217;
        const granted = new Freestyle({ baseUrl, identityAccessToken: token });
        const calls = [
          () => new Freestyle({ baseUrl, identityAccessToken: "pst_forged" }).vms.ref(vmId).exec("id"),
          () => granted.vms.ref(vmId).exec("id"),
          () => granted.vms.ref(vmId).linuxUser("bob").exec("id"),
          () => granted.vms.ref(absent).exec("id"),
          () => granted.vms.ref(vmId).delete(),
          () => granted.identities.create(),
        ];
        const codes = [];
        for (const call of calls) {
          codes.push(
            await call().then(
              () => "no refusal",
              (error: { status?: number; code?: string }) => `${error.status} ${error.code}`,
            ),
          );
        }
        return codes;
      },
      { ...(await given(["alice"])), absent: ABSENT_VM },
    );
    expect(refusals).toEqual([
      "401 INVALID_API_KEY",
      "403 FORBIDDEN",
      "403 FORBIDDEN",
      "404 NOT_FOUND",
      "403 FORBIDDEN",
      "403 FORBIDDEN",
    ]);
    expect(await vm.getInfo()).toMatchObject({ id: vmId });
  });
});

describe("a page of another origin", () => {
  test.each([
    ["without a credential", "GET", "/v1/vms", {}, undefined, 401],
    ["on a path that is none", "GET", "/v5/none", {}, undefined, 404],
    ["with a method that is none", "PATCH", "/v1/vms", {}, undefined, 405],
    ["with a body that is no JSON", "POST", "/v1/vms", { "content-type": "application/json" }, "{", 400],
  ])("reads why a call is refused %s: status, body and trace id", async (_why, method, path, headers, body, status) => {
    const page = await openPage();
    const credential: Record<string, string> = status === 401 ? {} : { authorization: `Bearer ${account.apiKey}` };
    const answer = await inPage(
      page,
      async ({ url, init }) => {
        const response = await fetch(url, init);
        return { status: response.status, json: await response.json(), trace: response.headers.get("x-freestyle-trace-id") };
      },
      {
        url: `${system.apiUrl}${path}`,
        init: { method, headers: { ...headers, ...credential }, ...(body === undefined ? {} : { body }) },
      },
    );
    expect(answer).toMatchObject({
      status,
      json: { code: expect.any(String), message: expect.any(String) },
      trace: expect.any(String),
    });
  });

  test("cannot read the operator's or the hosts' routes, whatever it shows", async () => {
    const page = await openPage();
    const outcomes = await inPage(
      page,
      async ({ urls, key }) => {
        const read = (url: string) =>
          fetch(url, { method: "POST", headers: { authorization: `Bearer ${key}` } }).then(
            () => "read",
            () => "blocked",
          );
        return Promise.all(urls.map(read));
      },
      {
        urls: ["/operator/v1/accounts", "/service/v1/hosts"].map((path) => `${system.apiUrl}${path}`),
        key: account.apiKey,
      },
    );
    expect(outcomes).toEqual(["blocked", "blocked"]);
  });
});

describe("a terminal in a page of another origin", () => {
  /** Opens a terminal in the page and answers what it showed, or `refused`. */
  const terminal = (page: Page, url: string, protocols: string[]) =>
    inPage(
      page,
      ({ url, protocols }) =>
        new Promise<string>((resolve) => {
          const socket = new WebSocket(url, protocols);
          socket.binaryType = "arraybuffer";
          let shown = "";
          socket.onopen = () => socket.send(new TextEncoder().encode("echo it is $(id -un); exit\n"));
          socket.onmessage = ({ data }) => {
            shown += typeof data === "string" ? "" : new TextDecoder().decode(data as ArrayBuffer);
          };
          socket.onclose = () => resolve(shown === "" ? "refused" : shown);
        }),
      { url, protocols },
    );
  /** Mints a ticket in the page itself, as an application would. */
  const mint = async (page: Page, dialect: string, linuxUser?: string): Promise<string> => {
    const { baseUrl, token } = await given();
    const answer = await inPage(
      page,
      async ({ url, token, linuxUser }) => {
        const response = await fetch(url, {
          method: "POST",
          headers: {
            "x-freestyle-identity-access-token": token,
            "content-type": "application/json",
            ...(linuxUser === undefined ? {} : { "x-freestyle-vm-linux-user-id": linuxUser }),
          },
          body: JSON.stringify(linuxUser === undefined ? {} : { linuxUser }),
        });
        return (await response.json()) as { ticket: string };
      },
      { url: `${baseUrl}/${dialect}/vms/${vmId}/terminal-ticket`, token, linuxUser },
    );
    return answer.ticket;
  };
  const socketUrl = (dialect: string, query = "") => `${system.apiUrl.replace("http", "ws")}/${dialect}/vms/${vmId}/pty${query}`;

  test.each<[dialect: string, how: string, shown: (ticket: string) => { query?: string; protocols?: string[] }]>([
    ["v1", "in the query", (ticket) => ({ query: `?ticket=${ticket}` })],
    ["v1", "as a subprotocol", (ticket) => ({ protocols: [`postern-ticket.${ticket}`] })],
    ["v5", "in the query", (ticket) => ({ query: `?ticket=${ticket}` })],
    ["v5", "as a subprotocol beside another", (ticket) => ({ protocols: ["terminal", `postern-ticket.${ticket}`] })],
  ])("of /%s opens by a ticket shown %s, and the ticket opens no second one", async (dialect, _how, shown) => {
    const page = await openPage();
    const { query, protocols = [] } = shown(await mint(page, dialect, "alice"));
    expect(await terminal(page, socketUrl(dialect, query), protocols)).toMatch(/it is alice\r\n/);
    expect(await terminal(page, socketUrl(dialect, query), protocols)).toBe("refused");
  });

  test("is refused without a ticket, and with one that is changed, for another user, or for another VM", async () => {
    const page = await openPage();
    const ticket = await mint(page, "v5", "alice");
    const other = `${system.apiUrl.replace("http", "ws")}/v5/vms/${ABSENT_VM}/pty?ticket=${ticket}`;
    const changed = `${ticket.slice(0, -4)}AAAA`;
    for (const url of [
      socketUrl("v5"),
      socketUrl("v5", `?ticket=${changed}`),
      socketUrl("v5", `?linuxUser=root&ticket=${ticket}`),
      other,
    ]) {
      expect(await terminal(page, url, [])).toBe("refused");
    }
    expect(await terminal(page, socketUrl("v5", `?ticket=${ticket}`), [])).toContain("it is alice");
  });

  test("is refused with an SDK's own credential in place of a ticket", async () => {
    const page = await openPage();
    const { token } = await given();
    for (const credential of [token, account.apiKey]) {
      expect(await terminal(page, socketUrl("v5", `?ticket=${credential}`), [])).toBe("refused");
      expect(await terminal(page, socketUrl("v5"), [`postern-ticket.${credential}`])).toBe("refused");
    }
  });

  test("gets no ticket for a Linux user outside the grant or with a revoked token", async () => {
    const { token, identity, tokenId } = await testIdentity(owner, [{ vmId, allowedUsers: ["alice"] }]);
    const path = `/v5/vms/${vmId}/terminal-ticket`;
    expect(await wire("POST", path, { token }, { linuxUser: "bob" })).toMatchObject({ status: 403 });
    await identity.tokens.revoke({ tokenId });
    expect(await wire("POST", path, { token }, { linuxUser: "alice" })).toMatchObject({ status: 401 });
  });
});
