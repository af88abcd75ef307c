import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { json, startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

interface Status {
  readonly uploadId: string;
  readonly receivedBytes: number;
}
type Caller = { readonly user?: string; readonly sub?: `identity:${string}`; readonly vm?: string };

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const CHUNK = 1_000_000;
const LIMIT = 3;

describe("an upload in pieces", () => {
  let host: TestHost;
  let vm: string;

  beforeAll(async () => {
    host = await startTestHost({
      POSTERN_FILE_BYTES: "20000000",
      POSTERN_UPLOAD_CHUNK_BYTES: String(CHUNK),
      POSTERN_VM_UPLOADS: String(LIMIT),
      POSTERN_UPLOAD_SWEEP_MS: "50",
      POSTERN_BODY_IDLE_MS: "2000",
    });
    vm = await host.createVm({ users: [{ name: "developer" }] });
  }, 60_000);
  afterAll(() => host.close());

  const call = (method: string, route: string, { user = "root", vm: at = vm, ...claims }: Caller = {}, init: RequestInit = {}) =>
    host.request(method, `/vms/${at}/uploads${route}`, { vm: at, user, op: "files", ...claims }, init);
  const begin = (path: string, size: number, more: object = {}, caller: Caller = {}) =>
    call("POST", "", caller, json({ path, size, ...more }));
  const begun = async (path: string, size: number, more: object = {}, caller: Caller = {}) =>
    ((await (await begin(path, size, more, caller)).json()) as Status).uploadId;
  const put = (id: string, offset: number | string, body: Uint8Array<ArrayBuffer> | string, caller: Caller = {}) =>
    call("PUT", `/${id}?offset=${offset}`, caller, { body });
  const received = async (answer: Response) => ((await answer.json()) as Status).receivedBytes;
  const progress = async (id: string) => received(await call("GET", `/${id}`));
  const commit = (id: string, caller: Caller = {}) => call("POST", `/${id}/commit`, caller);
  const discard = (id: string, caller: Caller = {}) => call("DELETE", `/${id}`, caller);
  const shell = async (command: string) => {
    const answer = (await (await host.exec(vm, "root", { command })).json()) as { stdout: string };
    return answer.stdout;
  };
  const refusal = async (answer: Response) => [answer.status, ((await answer.json()) as { kind: string }).kind];
  /** A piece whose sender does not finish. */
  const sendHalf = async (id: string, offset: number, bytes: Uint8Array): Promise<Socket> => {
    const ticket = await host.edge.ticket(host.agent.id, { vm, user: "root", op: "files" });
    const { hostname, port } = new URL(host.agent.url);
    const socket = connect(Number(port), hostname);
    socket.on("error", () => undefined);
    const head = [`PUT /vms/${vm}/uploads/${id}?offset=${offset} HTTP/1.1`, "host: x", `authorization: Bearer ${ticket}`];
    socket.write(`${head.join("\r\n")}\r\ncontent-length: ${CHUNK}\r\n\r\n`);
    socket.write(bytes);
    return socket;
  };

  test("becomes the file that was sent, with its mode, once it is committed and not before", async () => {
    const bytes = new Uint8Array(randomBytes(2_500_000));
    const id = await begun("/root/made/here", bytes.length, { sha256: sha256(bytes), mode: 0o755 });
    for (let offset = 0; offset < bytes.length; offset += CHUNK) {
      const end = Math.min(offset + CHUNK, bytes.length);
      expect(await received(await put(id, offset, bytes.slice(offset, end)))).toBe(end);
      expect(await shell("ls /root/made")).toBe("");
    }
    expect((await commit(id)).status).toBe(200);
    expect(await shell("sha256sum </root/made/here; stat -c %a /root/made/here; ls -A /root/made")).toBe(
      `${sha256(bytes)}  -\n755\nhere\n`,
    );
    expect(await refusal(await commit(id))).toEqual([404, "upload-not-found"]);
  });

  test("may be empty", async () => {
    expect((await commit(await begun("/root/empty", 0, { sha256: sha256(new Uint8Array(0)) }))).status).toBe(200);
    expect(await shell("stat -c %s /root/empty")).toBe("0\n");
  });

  test("keeps the old file's owner and mode", async () => {
    await shell("echo old >/home/developer/old; chown developer: /home/developer/old; chmod 640 /home/developer/old");
    const id = await begun("/home/developer/old", 3, { newMode: 0o600 });
    await put(id, 0, "new");
    expect(await shell("cat /home/developer/old")).toBe("old\n");
    await commit(id);
    expect(await shell("stat -c '%U %a' /home/developer/old; cat /home/developer/old")).toBe("developer 640\nnew");
  });

  test("by a user whose mode shuts that user out still arrives", async () => {
    const id = await begun("/home/developer/shut", 4, { mode: 0o400 }, { user: "developer" });
    expect(await received(await put(id, 0, "ab", { user: "developer" }))).toBe(2);
    expect(await received(await put(id, 2, "cd", { user: "developer" }))).toBe(4);
    expect((await commit(id, { user: "developer" })).status).toBe(200);
    expect(await shell("stat -c '%U %a' /home/developer/shut; cat /home/developer/shut")).toBe("developer 400\nabcd");
  });

  test("acknowledges bytes that are there without writing them again", async () => {
    const id = await begun("/root/again", 6);
    await put(id, 0, "abcd");
    expect(await received(await put(id, 0, "XXXX"))).toBe(4);
    expect(await received(await put(id, 1, "X"))).toBe(4);
    expect(await received(await put(id, 2, "YYef"))).toBe(6);
    await commit(id);
    expect(await shell("cat /root/again")).toBe("abcdef");
  });

  test("keeps what came over a connection that dropped", async () => {
    const id = await begun("/root/dropped", CHUNK);
    const socket = await sendHalf(id, 0, Buffer.alloc(400_000, "a"));
    await until(async () => (await progress(id)) === 400_000, "the half is there");
    socket.destroy();
    expect(await received(await put(id, 0, new Uint8Array(Buffer.alloc(CHUNK, "b"))))).toBe(CHUNK);
    await commit(id);
    expect(await shell("head -c 400000 /root/dropped | tr -d a | wc -c; tail -c 600000 /root/dropped | tr -d b | wc -c")).toBe(
      "0\n0\n",
    );
  });

  test("goes on at once though the host has not noticed that the last connection is dead", async () => {
    const id = await begun("/root/taken-over", CHUNK);
    const socket = await sendHalf(id, 0, Buffer.alloc(400_000, "a"));
    await until(async () => (await progress(id)) === 400_000, "the half is there");
    expect(await received(await put(id, 400_000, new Uint8Array(600_000)))).toBe(CHUNK);
    socket.destroy();
    expect((await discard(id)).status).toBe(200);
  });

  test("is answered when its sender stops sending, and keeps what came", async () => {
    const id = await begun("/root/stalled", CHUNK);
    const socket = await sendHalf(id, 0, Buffer.alloc(400_000, "a"));
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 408 /);
    socket.destroy();
    expect(await progress(id)).toBe(400_000);
    await discard(id);
  });

  test("outlives a restart of the host", async () => {
    const bytes = new Uint8Array(randomBytes(1_500_000));
    const id = await begun("/root/restarted", bytes.length, { sha256: sha256(bytes) });
    await put(id, 0, bytes.slice(0, CHUNK));
    await host.restart();
    expect(await progress(id)).toBe(CHUNK);
    await put(id, CHUNK, bytes.slice(CHUNK));
    expect((await commit(id)).status).toBe(200);
    expect(await shell("sha256sum </root/restarted")).toBe(`${sha256(bytes)}  -\n`);
  });

  test("that is not what it was said to be leaves the old file", async () => {
    await shell("echo old >/root/untouched");
    const id = await begun("/root/untouched", 5, { sha256: "0".repeat(64) });
    await put(id, 0, "wrong");
    expect(await refusal(await commit(id))).toEqual([400, "file-bad-request"]);
    await host.restart();
    expect(await refusal(await commit(id))).toEqual([400, "file-bad-request"]);
    await discard(id);
    expect(await shell("cat /root/untouched; ls -A /root | grep postern")).toBe("old\n");
  });

  describe("is refused", () => {
    test("a gap, and says where to go on", async () => {
      const id = await begun("/root/gap", 10);
      await put(id, 0, "abc");
      const answer = await put(id, 4, "efg");
      expect(answer.status).toBe(409);
      expect(await answer.json()).toMatchObject({ kind: "conflict", details: { receivedBytes: 3 } });
      expect(await progress(id)).toBe(3);
      await discard(id);
    });

    test("to be committed before it is whole", async () => {
      const id = await begun("/root/partial", 10);
      await put(id, 0, "abc");
      expect(await refusal(await commit(id))).toEqual([409, "conflict"]);
      expect(await progress(id)).toBe(3);
      await discard(id);
      expect(await shell("ls /root/partial 2>&1 | wc -l; ls -A /root | grep postern")).toBe("1\n");
    });

    test("bytes beyond its size, declared or not, and keeps what was there", async () => {
      const id = await begun("/root/beyond", 6);
      await put(id, 0, "abcd");
      expect(await refusal(await put(id, 4, "efg"))).toEqual([400, "file-bad-request"]);
      const undeclared = new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode("e"));
          controller.enqueue(new TextEncoder().encode("fgh"));
          controller.close();
        },
      });
      const init = { body: undeclared, duplex: "half" } as RequestInit;
      expect(await refusal(await call("PUT", `/${id}?offset=4`, {}, init))).toEqual([413, "payload-too-large"]);
      expect(await progress(id)).toBe(4);
      await discard(id);
    });

    test("a piece beyond the limit, and a file beyond the limit", async () => {
      const id = await begun("/root/big-piece", 2 * CHUNK);
      expect(await refusal(await put(id, 0, new Uint8Array(CHUNK + 1)))).toEqual([413, "payload-too-large"]);
      expect(await progress(id)).toBe(0);
      await discard(id);
      expect(await refusal(await begin("/root/big", 20_000_001))).toEqual([413, "payload-too-large"]);
    });

    test.each(["-1", "1.5", "", "x", "9".repeat(16)])("a piece at the offset %j", async (offset) => {
      const id = await begun("/root/offset", 10);
      expect(await refusal(await put(id, offset, "x"))).toEqual([400, "bad-request"]);
      await discard(id);
    });

    test.each([
      ["no path", { size: 1 }],
      ["no size", { path: "/root/x" }],
      ["a negative size", { path: "/root/x", size: -1 }],
      ["half a byte", { path: "/root/x", size: 0.5 }],
      ["a size that is no number", { path: "/root/x", size: "1" }],
      ["a hash that is none", { path: "/root/x", size: 1, sha256: "abc" }],
      ["a mode that is none", { path: "/root/x", size: 1, mode: 0o10000 }],
    ])("with %s", async (_what, body) => {
      expect(await refusal(await call("POST", "", {}, json(body)))).toEqual([400, "bad-request"]);
    });

    test.each([
      ["a directory", "/root", "root", 400, "file-bad-request"],
      ["half of a letter", "/root/\ud800", "root", 400, "file-bad-request"],
      ["NUL", "/root/a\0b", "root", 400, "file-bad-request"],
      ["4097 bytes", `/${"x".repeat(4096)}`, "root", 400, "file-bad-request"],
      ["a file of root", "/etc/passwd", "developer", 403, "file-access-denied"],
      ["below a file", "/etc/passwd/x", "root", 404, "file-not-found"],
      ["a user that is not there", "/tmp/x", "nobody-here", 404, "linux-user-not-found"],
    ])("when it begins, for the path is %s", async (_what, path, user, code, kind) => {
      const answer = await begin(path, 1, {}, { user });
      const outcome = answer.ok ? await put(((await answer.json()) as Status).uploadId, 0, "x", { user }) : answer;
      if (outcome.ok) {
        // The file can be staged elsewhere; that it cannot take its place shows when it is committed.
        const { uploadId } = (await outcome.json()) as Status;
        expect(await refusal(await commit(uploadId, { user }))).toEqual([code, kind]);
      } else expect(await refusal(outcome)).toEqual([code, kind]);
      expect(await shell("head -c 4 /etc/passwd; ls -A /var/tmp /root | grep postern")).toBe("root");
    });

    test("to anybody but who began it: another identity, another Linux user, for another VM", async () => {
      const id = await begun("/root/mine", 3);
      const other = await host.createVm();
      for (const caller of [{ sub: "identity:bbbbbbbbbbbbbbbb" as const }, { user: "developer" }, { vm: other }]) {
        for (const answer of [
          await call("GET", `/${id}`, caller),
          await put(id, 0, "bad", caller),
          await commit(id, caller),
          await discard(id, caller),
        ]) {
          expect(await refusal(answer)).toEqual([404, "upload-not-found"]);
        }
      }
      expect(await progress(id)).toBe(0);
      await discard(id);
    });

    test.each(["nonsense", "..", "%2e%2e%2fvms", "a".repeat(24), "a".repeat(5000)])("when there is none, as of %j", async (id) => {
      for (const answer of [await call("GET", `/${id}`), await put(id, 0, "x"), await commit(id), await discard(id)]) {
        expect(answer.status).toBeGreaterThanOrEqual(400);
        expect(answer.status).toBeLessThan(500);
      }
    });

    test("beyond the number that a VM may have, which finished ones do not count towards", async () => {
      const ids = [await begun("/root/one", 1), await begun("/root/two", 1), await begun("/root/three", 1)];
      expect(await refusal(await begin("/root/four", 1))).toEqual([403, "quota-exceeded"]);
      for (const id of ids) await discard(id);
      const many = await Promise.all(["a", "b", "c", "d", "e"].map((name) => begin(`/root/${name}`, 1)));
      expect(many.map(({ status }) => status).sort()).toEqual([200, 200, 200, 403, 403]);
      for (const answer of many) if (answer.ok) await discard(((await answer.json()) as Status).uploadId);
      expect(await shell("ls -A /root | grep postern")).toBe("");
    });
  });

  test("whose bytes somebody took away, or put a link in place of, is no more", async () => {
    for (const change of ["rm", "ln -sfn /etc/passwd"]) {
      const id = await begun("/root/away/file", 4);
      await put(id, 0, "ab");
      await shell(`${change} /root/away/.postern-*`);
      expect(await refusal(await put(id, 2, "cd"))).toEqual([404, "upload-not-found"]);
      expect(await refusal(await commit(id))).toEqual([404, "upload-not-found"]);
      await discard(id);
    }
    expect(await shell("head -c 4 /etc/passwd; ls -A /root/away")).toBe("root");
  });

  test("of a VM that is deleted is forgotten", async () => {
    const other = await host.createVm();
    await begun("/root/file", 1, {}, { vm: other });
    await host.request("DELETE", `/vms/${other}`, { vm: other, op: "delete" });
    await until(() => readdirSync(join(host.stateDir, "uploads")).length === 0, "the record is gone");
  });
});

test("an upload that nobody finishes expires, and takes its bytes along", async () => {
  const host = await startTestHost({ POSTERN_UPLOAD_KEEP_MS: "500", POSTERN_UPLOAD_SWEEP_MS: "50" });
  try {
    const vm = await host.createVm();
    const claims = { vm, user: "root", op: "files" } as const;
    const answer = await host.request("POST", `/vms/${vm}/uploads`, claims, json({ path: "/root/file", size: 1 }));
    const { uploadId } = (await answer.json()) as Status;
    await until(() => readdirSync(join(host.stateDir, "uploads")).length === 0, "the record is gone");
    expect((await host.request("GET", `/vms/${vm}/uploads/${uploadId}`, claims)).status).toBe(404);
    await until(async () => {
      const { stdout } = (await (await host.exec(vm, "root", { command: "ls -A /root" })).json()) as { stdout: string };
      return !stdout.includes("postern");
    }, "the bytes are gone");
  } finally {
    await host.close();
  }
}, 30_000);

test("a damaged record does not keep the host from starting", async () => {
  const host = await startTestHost();
  try {
    const folder = join(host.stateDir, "uploads");
    await host.restart(() => {
      writeFileSync(join(folder, "half.json"), '{"uploadId":');
      writeFileSync(join(folder, "other.json"), "{}");
    });
    expect(readdirSync(folder)).toEqual([]);
  } finally {
    await host.close();
  }
}, 30_000);
