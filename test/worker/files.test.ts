import { beforeAll, describe, expect, it } from "vitest";
import { FILE_KIND_HEADER } from "../../protocol/headers.ts";
import { base64Envelope } from "../../worker/http/base64.ts";
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

const fileUrl = (encoded: string) => `/v1/vms/${vmId}/files/${encoded}`;
const askedPath = () => new URLSearchParams(world.host.calls.at(-1)?.search).get("path");
const put = (body: unknown, encoded = "%2Ftmp%2Fx") => call(fileUrl(encoded), { method: "PUT", token, body });
const written = () => world.host.calls.at(-1)?.body;

describe("a path is one segment, decoded once", () => {
  it.each([
    "/etc/a b.txt",
    "/",
    "relative/path",
    "//double//slashes/",
    "/a%2Fb",
    "/100%",
    "/ü/文/🗝",
    "/q?x=1&y=2#z",
    "/a+b",
    "/../etc/passwd",
    "/trailing/..",
  ])("%s", async (path) => {
    const response = await call(fileUrl(encodeURIComponent(path)), { token });
    expect(response.status).toBe(200);
    expect(askedPath()).toBe(path);
    expect((await put({ content: "x", encoding: "utf-8" }, encodeURIComponent(path))).status).toBe(200);
    expect(askedPath()).toBe(path);
  });

  it.each(["%ff%fe", "%2", "%zz"])("%s is no text, so a bad request", async (encoded) => {
    const before = world.host.calls.length;
    const response = await call(fileUrl(encoded), { token });
    expect(response.status).toBe(400);
    expect(world.host.calls.length).toBe(before);
  });

  it.each([encodeURIComponent("/a\0b"), encodeURIComponent(`/${"x".repeat(4096)}`)])(
    "%# is no path, so a bad request",
    async (encoded) => {
      for (const response of [await call(fileUrl(encoded), { token }), await put({ content: "" }, encoded)]) {
        expect(response.status).toBe(400);
        expect(await response.json()).toMatchObject({ code: "FILES_BAD_REQUEST" });
      }
    },
  );

  it("slashes that are not encoded are another route", async () => {
    expect((await call(fileUrl("etc/motd"), { token })).status).toBe(404);
    expect((await call(fileUrl(""), { token })).status).toBe(404);
  });
});

it("a directory lists files and directories; 0.1 has no third kind", async () => {
  expect(await must(fileUrl("%2F"), { token })).toEqual({
    files: [
      { name: "etc", kind: "directory" },
      { name: "motd", kind: "file" },
      { name: "lib", kind: "file" },
    ],
  });
});

describe("a file is read as base64", () => {
  it.each([0, 1, 2, 3, 4, 1000, 24_576, 24_577, 1_000_003])("%i bytes", async (size) => {
    const bytes = pattern(size);
    world.host.answerNext(() => new Response(inChunks(bytes, 7919), { headers: { [FILE_KIND_HEADER]: "file" } }));
    const response = await call(fileUrl("%2Fbin"), { token });
    expect(response.headers.get("content-type")).toBe("application/json");
    const { content, encoding } = await response.json<{ content: string; encoding: string }>();
    expect(encoding).toBe("base64");
    expect(bytesOf(content)).toEqual(bytes);
  });

  it("as it comes: what was read of a file is passed on before the rest is there", async () => {
    const { readable, writable } = base64Envelope("<", ">");
    const writer = writable.getWriter();
    const reader = readable.getReader();
    const sent = writer.write(pattern(3001));
    let text = "";
    while (text.length < 4001) text += new TextDecoder().decode((await reader.read()).value);
    await sent;
    const closed = writer.close();
    for (let part = await reader.read(); !part.done; part = await reader.read()) text += new TextDecoder().decode(part.value);
    await closed;
    expect(bytesOf(text.slice(1, -1))).toEqual(pattern(3001));
  });
});

describe("a file is written as the bytes that were meant", () => {
  it.each([
    [{ content: "aGkA/w==", encoding: "base64" }, [104, 105, 0, 255]],
    [{ content: "hé", encoding: "utf-8" }, [104, 195, 169]],
    [{ content: "hé", encoding: "utf8" }, [104, 195, 169]],
    [{ content: "hé" }, [104, 195, 169]],
    [{ content: "", encoding: "base64" }, []],
  ])("%j", async (body, bytes) => {
    const response = await put(body);
    expect(await response.json()).toEqual({});
    expect([...(written() ?? [])]).toEqual(bytes);
    expect(world.host.calls.at(-1)?.headers.get("content-type")).toBe("application/octet-stream");
  });

  it.each([{ content: "!!", encoding: "base64" }, { content: "x", encoding: "latin1" }, {}, { content: 5 }, "not json", "null"])(
    "and refused as %j",
    async (body) => {
      const before = world.host.calls.length;
      const response = await put(body);
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ code: "FILES_BAD_REQUEST" });
      expect(world.host.calls.length).toBe(before);
    },
  );

  it("up to the limit, and over it as too large", async () => {
    const limit = 16 * 1024 * 1024;
    expect((await put({ content: "A".repeat(limit), encoding: "utf-8" })).status).toBe(200);
    expect(written()?.byteLength).toBe(limit);
    const before = world.host.calls.length;
    for (const size of [limit + 1, limit * 2 + 8192]) {
      const response = await put({ content: "A".repeat(size), encoding: "utf-8" });
      expect(response.status).toBe(413);
      expect(await response.json()).toMatchObject({ code: "INVALID_REQUEST", maxBytes: expect.any(Number) });
    }
    expect(world.host.calls.length).toBe(before);
  });
});

it("a missing file is FILE_NOT_FOUND with its path", async () => {
  world.host.answerNext(() => failed("file-not-found", "There is no such file.", { path: "/nope" }));
  const response = await call(fileUrl("%2Fnope"), { token });
  expect(response.status).toBe(404);
  expect(await response.json()).toMatchObject({ code: "FILE_NOT_FOUND", path: "/nope" });
});

function pattern(size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_value, index) => (index * 31 + (index >> 8)) & 255);
}

function inChunks(bytes: Uint8Array, size: number): ReadableStream<Uint8Array> {
  let start = 0;
  return new ReadableStream({
    pull(controller) {
      if (start >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(start, start + size));
      start += size;
    },
  });
}

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}
