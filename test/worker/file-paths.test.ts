import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { call, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

let world: World;
let vmId: string;
let token: string;
beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account);
  ({ token } = await newIdentity(world.account, [vmId], ["alice"]));
});

/** Pieces out of which a path that somebody would get wrong is made. */
const piece = fc.oneof(
  fc.constantFrom(
    "/",
    "//",
    ".",
    "..",
    "/../",
    "%2F",
    "%2e%2e",
    "%",
    "%00",
    "\0",
    "+",
    " ",
    "#",
    "?",
    "&",
    "=",
    "~",
    "\\",
    "\n",
    "ü",
    "🦊",
    "\u202e",
  ),
  fc.string({ unit: "grapheme", maxLength: 8 }),
  fc.constantFrom("x".repeat(255), "y".repeat(5000)),
);
const anyPath = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(""));
/** An encoded path, as a careless client may write it: any bytes, correctly escaped or not. */
const anyEncoded = fc
  .array(
    fc.oneof(fc.constantFrom("%", "%2", "%ff", "%c3%28", "%ed%a0%80", "%2F", "%00", "a", "+", "/"), fc.string({ maxLength: 3 })),
    { maxLength: 12 },
  )
  .map((parts) => parts.join("").replace(/[#?&\s\\]/g, ""));

const RUNS = { numRuns: 150 };
const linuxUser = "alice";

/** Every way to say a path to the edge, and whether the path may begin anywhere. */
const WAYS = {
  "v1 files": (path: string) => call(`/v1/vms/${vmId}/files/${encodeURIComponent(path)}`, { token, linuxUser }),
  "v1 write": (path: string) =>
    call(`/v1/vms/${vmId}/files/${encodeURIComponent(path)}`, { method: "PUT", token, linuxUser, body: { content: "" } }),
  "v1 watch": (path: string) =>
    call(`/v1/vms/${vmId}/watch-files?path=${encodeURIComponent(path)}`, { method: "POST", token, linuxUser }),
  "v5 read": (path: string) => call(`/v5/vms/${vmId}/fs/read?${new URLSearchParams({ path, linuxUser })}`, { token }),
  "v5 remove": (path: string) =>
    call(`/v5/vms/${vmId}/fs/remove?${new URLSearchParams({ path, linuxUser })}`, { method: "DELETE", token }),
  "v5 mkdir": (path: string) => call(`/v5/vms/${vmId}/fs/mkdir?linuxUser=alice`, { method: "POST", token, body: { path } }),
  "v5 uploads": (path: string) =>
    call(`/v5/vms/${vmId}/fs/uploads?linuxUser=alice`, { method: "POST", token, body: { path, size: 1 } }),
};

function pathAtHost(): string | null {
  const { path, search, body } = world.host.calls.at(-1) ?? {};
  if (path?.endsWith("/uploads")) return (JSON.parse(new TextDecoder().decode(body)) as { path: string }).path;
  return new URLSearchParams(search).get("path");
}

describe.each(Object.entries(WAYS))("%s", (_name, send) => {
  it("passes a path on exactly as it was sent, for the ticket's user alone, or refuses it with a client's error", async () => {
    await fc.assert(
      fc.asyncProperty(anyPath, async (path) => {
        const before = world.host.calls.length;
        const response = await send(path);
        const reached = world.host.calls.length - before;
        if (response.ok) {
          expect(reached).toBe(1);
          expect(pathAtHost()).toBe(path);
          expect(world.host.calls.at(-1)?.claims).toMatchObject({ vm: vmId, user: "alice", op: "files" });
          await response.body?.cancel();
          return;
        }
        expect(response.status).toBeGreaterThanOrEqual(400);
        expect(response.status).toBeLessThan(500);
        expect(reached).toBe(0);
        expect(await response.json()).toMatchObject({ code: expect.any(String), message: expect.any(String) });
      }),
      RUNS,
    );
  });
});

it.each([
  ["v1", (encoded: string) => `/v1/vms/${vmId}/files/${encoded}`],
  ["v5", (encoded: string) => `/v5/vms/${vmId}/fs/read?linuxUser=alice&path=${encoded}`],
])("%s: whatever stands where a path should, the answer is a success or a client's error in JSON", async (_dialect, urlOf) => {
  await fc.assert(
    fc.asyncProperty(anyEncoded, async (encoded) => {
      const response = await call(urlOf(encoded), { token, linuxUser });
      expect(response.status).toBeLessThan(500);
      if (!response.ok) expect(await response.json()).toMatchObject({ code: expect.any(String) });
      else await response.body?.cancel();
    }),
    RUNS,
  );
});

it.each(["/a\0b", "/..", "relative"])("v5 never lets %j through", async (path) => {
  const before = world.host.calls.length;
  for (const name of ["v5 read", "v5 remove", "v5 mkdir", "v5 uploads"] as const) expect((await WAYS[name](path)).status).toBe(400);
  expect(world.host.calls.length).toBe(before);
});
