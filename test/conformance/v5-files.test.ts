import { createHash, randomBytes } from "node:crypto";
import { connect } from "node:net";
import { Freestyle, type Vm } from "freestyle-0.2";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newAccount, system } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { deleteVmV5, expectRefusalV5, INTERNET, keyClientV5, testIdentityV5, tokenClientV5 } from "../system/sdk-v5.ts";
import { wire } from "../system/wire.ts";

const MIB = 1024 * 1024;
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

describe("files with freestyle 0.2.17", () => {
  let apiKey: string;
  let owner: Freestyle;
  let vm: Vm;
  let byToken: Vm;
  beforeAll(async () => {
    ({ apiKey } = await newAccount());
    owner = keyClientV5(apiKey);
    ({ vm } = await owner.vms.create({ firewall: INTERNET }));
    await vm.exec("useradd --uid 2000 --create-home --shell /bin/bash alice");
    byToken = tokenClientV5((await testIdentityV5(owner, vm)).token).vms.ref(vm.id);
  });
  afterAll(() => deleteVmV5(owner, vm.id));

  const shell = async (command: string) => (await vm.exec(command)).stdout;
  const raw = (route: string, query: Record<string, string>, init: RequestInit = {}) =>
    fetch(`${system.apiUrl}/v5/vms/${vm.id}/fs/${route}?${new URLSearchParams(query)}`, {
      ...init,
      headers: { authorization: `Bearer ${apiKey}`, ...init.headers },
    });

  test("a small file comes back byte for byte, by key and by token", async () => {
    for (const { fs } of [vm, byToken]) {
      const bytes = new Uint8Array(randomBytes(300_000));
      await fs.writeFile("/srv/new dir/ü 文.bin", bytes);
      expect(sha256(await fs.readFile("/srv/new dir/ü 文.bin"))).toBe(sha256(bytes));
    }
    await byToken.fs.writeTextFile("/root/text", "grüße\n");
    expect(await byToken.fs.readTextFile("/root/text")).toBe("grüße\n");
    await byToken.fs.writeFile("/root/empty", new Uint8Array(0));
    expect(await byToken.fs.readFile("/root/empty")).toHaveLength(0);
  });

  test("a new file is for its owner alone, an old one keeps its mode, and a mode that is given holds", async () => {
    const modes = async () => shell("stat -c %a /root/moded");
    await vm.fs.writeTextFile("/root/moded", "one");
    expect(await modes()).toBe("600\n");
    await vm.fs.writeTextFile("/root/moded", "two", { mode: 0o755 });
    expect(await modes()).toBe("755\n");
    await vm.fs.writeTextFile("/root/moded", "three");
    expect(await modes()).toBe("755\n");
  });

  test("a part of a file is that part, streamed or not", async () => {
    await vm.fs.writeTextFile("/root/digits", "0123456789");
    expect(await vm.fs.readTextFile("/root/digits", { offset: 3 })).toBe("3456789");
    expect(await vm.fs.readTextFile("/root/digits", { length: 4 })).toBe("0123");
    expect(await vm.fs.readTextFile("/root/digits", { offset: 8, length: 100 })).toBe("89");
    const stream = await byToken.fs.readFileStream("/root/digits", { offset: 2, length: 3 });
    expect(await new Response(stream).text()).toBe("234");
    await expectRefusalV5(vm.fs.readFile("/root/digits", { offset: 10 }), "416 RANGE_NOT_SATISFIABLE");
    await expectRefusalV5(vm.fs.readFile("/root/digits", { offset: 3, length: 0 }), "416 RANGE_NOT_SATISFIABLE");
  });

  test("Range is answered as RFC 9110 says", async () => {
    await vm.fs.writeTextFile("/root/digits", "0123456789");
    const read = async (range: string) => {
      const answer = await raw("read", { path: "/root/digits" }, { headers: { range } });
      return [answer.status, answer.headers.get("content-range"), answer.headers.get("content-length"), await answer.text()];
    };
    expect(await read("bytes=-3")).toEqual([206, "bytes 7-9/10", "3", "789"]);
    expect(await read("bytes=0-0")).toEqual([206, "bytes 0-0/10", "1", "0"]);
    expect(await read("bytes=0-1,4-5")).toEqual([200, null, "10", "0123456789"]);
    expect((await read("bytes=11-")).slice(0, 2)).toEqual([416, "bytes */10"]);
  });

  test("a large file goes up in pieces and comes down as a stream", async () => {
    const bytes = new Uint8Array(randomBytes(40 * MIB + 12_345));
    const progress: number[] = [];
    const onProgress = ({ completedBytes }: { completedBytes: number }) => progress.push(completedBytes);
    await byToken.fs.writeFile("/srv/large/file", bytes, { mode: 0o640, onProgress });
    expect(progress).toEqual([16 * MIB, 32 * MIB, bytes.length]);
    expect(await shell("sha256sum </srv/large/file; stat -c %a /srv/large/file; ls -A /srv/large")).toBe(
      `${sha256(bytes)}  -\n640\nfile\n`,
    );
    const hash = createHash("sha256");
    for await (const chunk of await byToken.fs.readFileStream("/srv/large/file")) hash.update(chunk);
    expect(hash.digest("hex")).toBe(sha256(bytes));
  });

  test("a Blob goes up without a hash of its own", async () => {
    const bytes = new Uint8Array(randomBytes(9 * MIB));
    await vm.fs.writeFile("/root/blob", new Blob([bytes]), { chunkSize: 4 * MIB });
    expect(await shell("sha256sum </root/blob")).toBe(`${sha256(bytes)}  -\n`);
  });

  test("pieces whose answer is lost, or that never arrive, are made good by the SDK", async () => {
    let pieces = 0;
    const unreliable: typeof fetch = async (input, init) => {
      const isPiece = init?.method === "PUT" && String(input).includes("/uploads/");
      pieces += isPiece ? 1 : 0;
      if (isPiece && pieces === 1) throw new TypeError("the connection was never made");
      const answer = await fetch(input, init);
      if (!isPiece || pieces !== 3) return answer;
      await answer.text();
      throw new TypeError("the answer was lost");
    };
    const client = new Freestyle({ baseUrl: system.apiUrl, apiKey, fetch: unreliable });
    const bytes = new Uint8Array(randomBytes(9 * MIB));
    await client.vms.ref(vm.id).fs.writeFile("/root/unreliable", bytes, { chunkSize: 4 * MIB });
    expect(pieces).toBe(4);
    expect(await shell("sha256sum </root/unreliable")).toBe(`${sha256(bytes)}  -\n`);
  });

  test("a piece whose sender vanishes half-way leaves what came, and the upload goes on from there", async () => {
    const begun = await wire("POST", `/v5/vms/${vm.id}/fs/uploads`, { apiKey }, { path: "/root/resumed", size: 4 * MIB });
    const { uploadId } = begun.json;
    const { hostname, port } = new URL(system.apiUrl);
    const socket = connect(Number(port), hostname);
    socket.on("error", () => undefined);
    const head = [
      `PUT /v5/vms/${vm.id}/fs/uploads/${uploadId}?offset=0 HTTP/1.1`,
      `host: ${hostname}`,
      `authorization: Bearer ${apiKey}`,
    ];
    socket.write(`${head.join("\r\n")}\r\ncontent-length: ${4 * MIB}\r\n\r\n`);
    socket.write(Buffer.alloc(2 * MIB, "a"));
    const received = async () => (await wire("GET", `/v5/vms/${vm.id}/fs/uploads/${uploadId}`, { apiKey })).json.receivedBytes;
    await until("the half is there", 20_000, async () => ((await received()) === 2 * MIB ? true : undefined));
    socket.destroy();
    const rest = await raw(`uploads/${uploadId}`, { offset: String(2 * MIB) }, { method: "PUT", body: Buffer.alloc(2 * MIB, "b") });
    expect(await rest.json()).toMatchObject({ receivedBytes: 4 * MIB });
    expect((await wire("POST", `/v5/vms/${vm.id}/fs/uploads/${uploadId}/commit`, { apiKey }, {})).status).toBe(204);
    expect(await shell("head -c 2097152 /root/resumed | tr -d a | wc -c; tail -c 2097152 /root/resumed | tr -d b | wc -c")).toBe(
      "0\n0\n",
    );
  });

  test("mkdir, exists, stat, readDir and remove agree with each other", async () => {
    const { fs } = byToken;
    await fs.mkdir("/root/tree/branch/twig");
    await fs.mkdir("/root/tree/branch/twig");
    await fs.writeTextFile("/root/tree/leaf", "leaf", { mode: 0o644 });
    await shell("ln -s leaf /root/tree/link; ln -s nowhere /root/tree/lost");
    expect(await fs.exists("/root/tree/branch")).toBe(true);
    expect(await fs.exists("/root/tree/lost")).toBe(false);
    expect(await fs.stat("/root/tree/leaf")).toMatchObject({
      size: 4,
      isFile: true,
      isDirectory: false,
      isSymlink: false,
      permissions: "0644",
      owner: "root",
      group: "root",
    });
    expect(Date.parse((await fs.stat("/root/tree/leaf")).modified)).toBeGreaterThan(Date.now() - 3_600_000);
    expect(await fs.stat("/root/tree/link")).toMatchObject({ isFile: true, isSymlink: true });
    expect((await fs.readDir("/root/tree")).toSorted((left, right) => left.name.localeCompare(right.name))).toEqual([
      { name: "branch", kind: "directory" },
      { name: "leaf", kind: "file" },
      { name: "link", kind: "symlink" },
      { name: "lost", kind: "symlink" },
    ]);
    await fs.remove("/root/tree/link");
    expect(await fs.exists("/root/tree/leaf")).toBe(true);
    await fs.remove("/root/tree");
    expect(await fs.exists("/root/tree")).toBe(false);
    await expectRefusalV5(fs.stat("/root/tree"), "404 NOT_FOUND");
  });

  test("a file that is mounted, as a container's /etc/hosts is, can be written too", async () => {
    const hosts = await vm.fs.readTextFile("/etc/hosts");
    await vm.fs.writeTextFile("/etc/hosts", `${hosts}192.0.2.7 example.test\n`);
    expect(await shell("getent hosts example.test")).toContain("192.0.2.7");
    expect(await shell("ls -A /etc | grep -c postern || true")).toBe("0\n");
  });

  describe("refused", () => {
    test.each([
      ["reading nothing", (fs: Vm["fs"]) => fs.readFile("/absent"), "404 NOT_FOUND"],
      ["reading a directory", (fs: Vm["fs"]) => fs.readFile("/etc"), "400 BAD_REQUEST"],
      ["reading a device", (fs: Vm["fs"]) => fs.readFile("/dev/zero"), "400 BAD_REQUEST"],
      ["listing a file", (fs: Vm["fs"]) => fs.readDir("/etc/passwd"), "400 BAD_REQUEST"],
      ["listing nothing", (fs: Vm["fs"]) => fs.readDir("/absent"), "404 NOT_FOUND"],
      ["removing nothing", (fs: Vm["fs"]) => fs.remove("/absent"), "404 NOT_FOUND"],
      ["removing everything", (fs: Vm["fs"]) => fs.remove("/"), "400 BAD_REQUEST"],
      ["a directory where a file is", (fs: Vm["fs"]) => fs.mkdir("/etc/passwd"), "400 BAD_REQUEST"],
      ["writing over a directory", (fs: Vm["fs"]) => fs.writeTextFile("/etc", "x"), "400 BAD_REQUEST"],
      ["a relative path", (fs: Vm["fs"]) => fs.writeTextFile("x", "x"), "400 BAD_REQUEST"],
      ["a path with '..'", (fs: Vm["fs"]) => fs.readFile("/root/../etc/passwd"), "400 BAD_REQUEST"],
      ["a path with NUL", (fs: Vm["fs"]) => fs.stat("/a\0b"), "400 BAD_REQUEST"],
      ["a path of 4097 characters", (fs: Vm["fs"]) => fs.stat(`/${"x".repeat(4096)}`), "400 BAD_REQUEST"],
      ["a name of 256 bytes", (fs: Vm["fs"]) => fs.writeTextFile(`/root/${"x".repeat(256)}`, "x"), "400 BAD_REQUEST"],
      ["a file beyond 16 GiB", (fs: Vm["fs"]) => fs.writeFile("/root/x", hugeBlob()), "413 PAYLOAD_TOO_LARGE"],
    ] as const)("%s", async (_what, act, refusal) => {
      await expectRefusalV5(act(byToken.fs), refusal);
    });

    test("a write whose bytes changed on the way leaves the old file", async () => {
      await vm.fs.writeTextFile("/root/summed", "old");
      const answer = await raw("write", { path: "/root/summed", sha256: "0".repeat(64) }, { method: "PUT", body: "new" });
      expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([400, "BAD_REQUEST"]);
      expect(await shell("cat /root/summed; ls -A /root | grep -c postern")).toBe("old0\n");
    });

    test("a piece that leaves a gap, and a commit before the end", async () => {
      const begun = await wire("POST", `/v5/vms/${vm.id}/fs/uploads`, { apiKey }, { path: "/root/gap", size: 10 });
      const { uploadId } = begun.json;
      expect(uploadId).toMatch(/^[\w-]+$/);
      const gap = await raw(`uploads/${uploadId}`, { offset: "5" }, { method: "PUT", body: "x" });
      expect([gap.status, await gap.json()]).toMatchObject([409, { code: "CONFLICT", receivedBytes: 0 }]);
      expect(await wire("POST", `/v5/vms/${vm.id}/fs/uploads/${uploadId}/commit`, { apiKey }, {})).toMatchObject({ status: 409 });
      expect((await raw(`uploads/${uploadId}`, {}, { method: "DELETE" })).status).toBe(204);
      expect(await wire("GET", `/v5/vms/${vm.id}/fs/uploads/${uploadId}`, { apiKey })).toMatchObject({ status: 404 });
    });

    test("somebody else's upload, even with a grant on the VM", async () => {
      const begun = await wire("POST", `/v5/vms/${vm.id}/fs/uploads`, { apiKey }, { path: "/root/mine", size: 10 });
      const { token } = await testIdentityV5(owner, vm);
      for (const [method, route] of [
        ["GET", ""],
        ["POST", "/commit"],
        ["DELETE", ""],
      ] as const) {
        const answer = await wire(method, `/v5/vms/${vm.id}/fs/uploads/${begun.json.uploadId}${route}`, { token });
        expect(answer).toMatchObject({ status: 404, json: { code: "NOT_FOUND" } });
      }
    });

    test("root's files, to a token that may only be alice", async () => {
      const limited = tokenClientV5((await testIdentityV5(owner, vm, ["alice"])).token).vms.ref(vm.id);
      await expectRefusalV5(limited.fs.readFile("/etc/passwd"), "403 FORBIDDEN");
      await expectRefusalV5(limited.fs.writeTextFile("/root/x", "x"), "403 FORBIDDEN");
      await expectRefusalV5(limited.fs.writeFile("/root/x", new Uint8Array(9 * MIB)), "403 FORBIDDEN");
    });

    test("as alice, what Linux does not let alice", async () => {
      const { token } = await testIdentityV5(owner, vm, ["alice"]);
      await shell("rm -f /home/alice/out; ln -s /root /home/alice/out; echo mine >/home/alice/note; chown alice /home/alice/note");
      const read = (path: string) =>
        wire("GET", `/v5/vms/${vm.id}/fs/read?${new URLSearchParams({ path, linuxUser: "alice" })}`, { token });
      expect(await read("/home/alice/note")).toMatchObject({ status: 200, text: "mine\n" });
      for (const path of ["/etc/shadow", "/home/alice/out/digits"]) {
        expect(await read(path)).toMatchObject({ status: 403, json: { code: "FORBIDDEN" } });
      }
    });
  });
});

/** A file of 16 GiB and a byte that is nowhere. */
function hugeBlob(): Blob {
  const blob = new Blob([]);
  Object.defineProperty(blob, "size", { value: 16 * 1024 * MIB + 1 });
  return blob;
}
