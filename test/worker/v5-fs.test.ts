import { beforeAll, describe, expect, it } from "vitest";
import type { FileStatus } from "../../protocol/host-api.ts";
import { failed } from "./support/stub-host.ts";
import { call, must, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

let world: World;
let vmId: string;
let token: string;
beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account);
  ({ token } = await newIdentity(world.account, [vmId]));
});

const FILE: FileStatus = {
  kind: "file",
  isSymlink: false,
  size: 3,
  mode: 0o644,
  owner: "root",
  group: "staff",
  modifiedAt: 1_700_000_000_000,
};
const UPLOAD = { uploadId: "a".repeat(24), path: "/big", size: 10, receivedBytes: 4 };
const SHA256 = "0123456789abcdef".repeat(4);

const fs = (route: string, query: Record<string, string> = {}) => `/v5/vms/${vmId}/fs/${route}?${new URLSearchParams(query)}`;
const last = () => {
  const { method, path, search, body, headers, claims } = world.host.calls.at(-1) ?? {};
  const query = Object.fromEntries(new URLSearchParams(search));
  return { method, path: path?.replace(`/vms/${vmId}`, ""), query, body, headers, user: claims?.user, op: claims?.op };
};

describe("what is asked of the host", () => {
  it.each([
    ["read", "GET", { path: "/a b/ü" }, "GET", "/files", { path: "/a b/ü", kind: "file" }],
    ["dir", "GET", { path: "/" }, "GET", "/files", { path: "/", kind: "directory" }],
    ["stat", "GET", { path: "/x+y&z#?%" }, "GET", "/files/status", { path: "/x+y&z#?%" }],
    ["exists", "GET", { path: "/x" }, "GET", "/files/status", { path: "/x" }],
    ["remove", "DELETE", { path: "/x/" }, "DELETE", "/files", { path: "/x/" }],
    ["write", "PUT", { path: "/x" }, "PUT", "/files", { path: "/x", newMode: "384" }],
    [
      "write",
      "PUT",
      { path: "/x", mode: "493", sha256: SHA256.toUpperCase() },
      "PUT",
      "/files",
      { path: "/x", mode: "493", newMode: "384", sha256: SHA256 },
    ],
  ])("%s %s %j", async (route, method, query, asked, path, passed) => {
    const before = world.host.calls.length;
    await call(fs(route, query), { method, token });
    expect(world.host.calls.length).toBe(before + 1);
    expect(last()).toMatchObject({ method: asked, path, query: passed, user: "root", op: "files" });
  });

  it("mkdir takes the path from its body", async () => {
    const response = await call(fs("mkdir"), { method: "POST", token, body: { path: "/new dir" } });
    expect([response.status, await response.text()]).toEqual([204, ""]);
    expect(last()).toMatchObject({ method: "POST", path: "/files/directory", query: { path: "/new dir" } });
  });

  it("an upload in pieces goes through with its offsets and bytes", async () => {
    world.host.answerNext(() => Response.json(UPLOAD));
    const body = { path: "/big", size: 10, sha256: SHA256, mode: 0o755 };
    expect(await must(fs("uploads"), { method: "POST", token, body })).toEqual(UPLOAD);
    expect(JSON.parse(new TextDecoder().decode(last().body))).toEqual({ ...body, newMode: 0o600 });
    const path = `uploads/${UPLOAD.uploadId}`;
    world.host.answerNext(() => Response.json(UPLOAD));
    expect(await must(fs(path, { offset: "0" }), { method: "PUT", token, body: "four" })).toEqual(UPLOAD);
    expect(last()).toMatchObject({ method: "PUT", path: `/uploads/${UPLOAD.uploadId}`, query: { offset: "0" } });
    expect(new TextDecoder().decode(last().body)).toBe("four");
    expect(await must(fs(path), { token })).toMatchObject({ receivedBytes: 0 });
    expect((await call(fs(`${path}/commit`), { method: "POST", token, body: {} })).status).toBe(204);
    expect(last()).toMatchObject({ method: "POST", path: `/uploads/${UPLOAD.uploadId}/commit` });
    expect((await call(fs(path), { method: "DELETE", token })).status).toBe(204);
    expect(last()).toMatchObject({ method: "DELETE", path: `/uploads/${UPLOAD.uploadId}` });
  });

  it("an empty file is written as one", async () => {
    expect((await call(fs("write", { path: "/empty" }), { method: "PUT", token })).status).toBe(204);
    expect(last().body?.byteLength).toBe(0);
  });
});

describe("what a caller is told", () => {
  it("a whole file comes as its bytes", async () => {
    const response = await call(fs("read", { path: "/x" }), { token });
    expect([response.status, await response.text()]).toEqual([200, "content"]);
  });

  it("a part comes as 206 with its place", async () => {
    const headers = { "content-range": "bytes 1-2/7", "postern-file-kind": "file", "content-type": "application/octet-stream" };
    world.host.answerNext(() => new Response("on", { status: 206, headers }));
    const response = await call(fs("read", { path: "/x" }), { token, headers: { range: "bytes=1-2" } });
    expect([response.status, response.headers.get("content-range"), await response.text()]).toEqual([206, "bytes 1-2/7", "on"]);
    expect(last().headers?.get("range")).toBe("bytes=1-2");
    expect(response.headers.get("postern-file-kind")).toBe(null);
  });

  it("If-Range asks for the whole, since no version of a file is ever named", async () => {
    await call(fs("read", { path: "/x" }), { token, headers: { range: "bytes=1-2", "if-range": '"a"' } });
    expect(last().headers?.get("range")).toBe(null);
  });

  it("a part that is not there is 416 with the size", async () => {
    world.host.answerNext(() => failed("range-not-satisfiable", "no such bytes", { path: "/x", size: 7 }));
    const response = await call(fs("read", { path: "/x" }), { token, headers: { range: "bytes=9-" } });
    expect([response.status, response.headers.get("content-range")]).toEqual([416, "bytes */7"]);
    expect(await response.json()).toMatchObject({ code: "RANGE_NOT_SATISFIABLE", size: 7 });
  });

  it.each([
    [FILE, { isFile: true, isDirectory: false, isSymlink: false, permissions: "0644" }],
    [
      { ...FILE, kind: "directory", isSymlink: true, mode: 0o1777 },
      { isFile: false, isDirectory: true, isSymlink: true, permissions: "1777" },
    ],
    [
      { ...FILE, kind: "symlink", isSymlink: true, mode: 0 },
      { isFile: false, isDirectory: false, isSymlink: true, permissions: "0000" },
    ],
    [
      { ...FILE, kind: "other" },
      { isFile: false, isDirectory: false, isSymlink: false, permissions: "0644" },
    ],
  ] as const)("stat of %j", async (status, told) => {
    world.host.answerNext(() => Response.json(status));
    expect(await must(fs("stat", { path: "/x" }), { token })).toEqual({
      ...told,
      size: 3,
      owner: "root",
      group: "staff",
      modified: "2023-11-14T22:13:20.000Z",
    });
  });

  it("stat of nothing is 404; exists of nothing, and of a link to nothing, is false", async () => {
    const missing = () => failed("file-not-found", "nothing there", { path: "/x" });
    world.host.answerNext(missing);
    const response = await call(fs("stat", { path: "/x" }), { token });
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ code: "NOT_FOUND", path: "/x" });
    world.host.answerNext(missing);
    expect(await must(fs("exists", { path: "/x" }), { token })).toEqual({ exists: false });
    world.host.answerNext(() => Response.json({ ...FILE, kind: "symlink", isSymlink: true }));
    expect(await must(fs("exists", { path: "/x" }), { token })).toEqual({ exists: false });
    world.host.answerNext(() => Response.json(FILE));
    expect(await must(fs("exists", { path: "/x" }), { token })).toEqual({ exists: true });
  });

  it("exists where the user may not look is refused, not false", async () => {
    world.host.answerNext(() => failed("file-access-denied", "no", { path: "/x" }));
    expect((await call(fs("exists", { path: "/x" }), { token })).status).toBe(403);
  });

  it("a directory lists its entries with all three kinds", async () => {
    const files = ["directory", "file", "symlink"].map((kind) => ({ name: kind, kind }));
    world.host.answerNext(() => Response.json({ files }, { headers: { "postern-file-kind": "directory" } }));
    expect(await must(fs("dir", { path: "/" }), { token })).toEqual({ entries: files });
  });

  it.each([
    ["conflict", 409, "CONFLICT"],
    ["upload-not-found", 404, "NOT_FOUND"],
    ["file-bad-request", 400, "BAD_REQUEST"],
    ["payload-too-large", 413, "PAYLOAD_TOO_LARGE"],
    ["quota-exceeded", 403, "LIMIT_EXCEEDED"],
  ] as const)("a host's %s is %i %s", async (kind, status, code) => {
    world.host.answerNext(() => failed(kind, "no"));
    const response = await call(fs(`uploads/${UPLOAD.uploadId}`, { offset: "9" }), { method: "PUT", token, body: "x" });
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ code });
  });

  it.each(["stat", "dir", "exists"])("%s of a host that answers nonsense is 503", async (route) => {
    world.host.answerNext(() => Response.json({ surprise: true }, { headers: { "postern-file-kind": "directory" } }));
    expect((await call(fs(route, { path: "/x" }), { token })).status).toBe(503);
  });
});

describe("is refused before any host hears of it", () => {
  const PATHS = ["relative", "", "./x", "/a/../b", "/..", "/../etc/shadow", "/a\0b", `/${"x".repeat(4096)}`];
  const refused = async (path: string, options: Parameters<typeof call>[1]) => {
    const before = world.host.calls.length;
    const response = await call(path, options);
    expect(response.status, path).toBe(400);
    expect(await response.json()).toMatchObject({ code: "BAD_REQUEST" });
    expect(world.host.calls.length).toBe(before);
  };

  it.each([
    ["GET", "read"],
    ["GET", "dir"],
    ["GET", "stat"],
    ["GET", "exists"],
    ["PUT", "write"],
    ["DELETE", "remove"],
  ])("%s %s of what is no absolute path without '..'", async (method, route) => {
    for (const path of PATHS) await refused(fs(route, { path }), { method, token });
    await refused(fs(route), { method, token });
    for (const query of ["path=%ff%fe", "path=%2", "path=%zz", "%ff=x&path=%2Fx"]) {
      await refused(`/v5/vms/${vmId}/fs/${route}?${query}`, { method, token });
    }
  });

  it.each(["mkdir", "uploads"])("POST %s of the same, or of half a letter", async (route) => {
    for (const path of [...PATHS, "/\ud800", 7, null, undefined]) {
      await refused(fs(route), { method: "POST", token, body: { path, ...(route === "uploads" ? { size: 1 } : {}) } });
    }
    for (const body of ["[]", "null", '"/x"', "{", '{"path":"/x","size":1,"paht":1}'])
      await refused(fs(route), { method: "POST", token, body });
  });

  it.each([
    { mode: "0644x" },
    { mode: "-1" },
    { mode: "" },
    { mode: "4096" },
    { mode: "1e2" },
    { sha256: "" },
    { sha256: "abc" },
    { sha256: `${SHA256}0` },
  ])("a write with %j", async (query) => {
    await refused(fs("write", { path: "/x", ...query }), { method: "PUT", token, body: "x" });
  });

  it.each([
    { size: -1 },
    { size: 1.5 },
    { size: "1" },
    {},
    { size: 1, mode: 0o10000 },
    { size: 1, mode: "0644" },
    { size: 1, sha256: "abc" },
    { size: 1e300 },
  ])("an upload with %j", async (more) => {
    await refused(fs("uploads"), { method: "POST", token, body: { path: "/x", ...more } });
  });

  it.each(["", "-1", "1.5", "x", "1e3", "9".repeat(16)])("a piece at %j", async (offset) => {
    await refused(fs(`uploads/${UPLOAD.uploadId}`, { offset }), { method: "PUT", token, body: "x" });
  });

  it.each(["Root", "a;id", "../x", "x".repeat(33)])("the Linux user %j", async (linuxUser) => {
    await refused(fs("stat", { path: "/x", linuxUser }), { token });
  });
});

describe("a grant that lists Linux users", () => {
  it("does not let files be touched as root, who acts when nobody is named", async () => {
    const { token: limited } = await newIdentity(world.account, [vmId], ["alice"]);
    const before = world.host.calls.length;
    for (const [method, route] of [
      ["GET", "read"],
      ["GET", "stat"],
      ["PUT", "write"],
      ["DELETE", "remove"],
    ] as const) {
      const response = await call(fs(route, { path: "/x" }), { method, token: limited });
      expect(response.status).toBe(403);
      expect(await response.json()).toMatchObject({ code: "FORBIDDEN", allowedUsers: ["alice"] });
    }
    for (const linuxUser of ["root", "bob"]) {
      expect(
        (await call(fs("uploads", { linuxUser }), { method: "POST", token: limited, body: { path: "/x", size: 1 } })).status,
      ).toBe(403);
    }
    expect(world.host.calls.length).toBe(before);
  });

  it("lets them be touched as one who is listed", async () => {
    const { token: limited } = await newIdentity(world.account, [vmId], ["alice"]);
    await call(fs("read", { path: "/x", linuxUser: "alice" }), { token: limited });
    expect(last()).toMatchObject({ user: "alice", op: "files" });
  });
});

describe("a body that streams", () => {
  it("is sent once: when the host knows that the verdict is stale, the caller is asked to try again", async () => {
    const before = world.host.calls.length;
    world.host.answerNext(() => failed("stale-epoch", "old"));
    const response = await call(fs("write", { path: "/x" }), { method: "PUT", token, body: "x" });
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).not.toBe(null);
    expect(world.host.calls.length).toBe(before + 1);
  });

  it("of a caller who was revoked meanwhile is refused as such", async () => {
    const { id, token: doomed } = await newIdentity(world.account, [vmId]);
    world.host.answerNext(async () => {
      await must(`/identity/v1/identities/${id}/permissions/vm/${vmId}`, { method: "DELETE", key: world.account.key });
      return failed("stale-epoch", "old");
    });
    expect((await call(fs("write", { path: "/x" }), { method: "PUT", token: doomed, body: "x" })).status).toBe(404);
  });

  it("of a host that cannot be reached is 503", async () => {
    world.host.isReachable = false;
    const response = await call(fs("write", { path: "/x" }), { method: "PUT", token, body: "x" });
    world.host.isReachable = true;
    expect(response.status).toBe(503);
  });
});
