import { createHash, randomBytes } from "node:crypto";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

describe("files", () => {
  let host: TestHost;
  let vm: string;

  beforeAll(async () => {
    host = await startTestHost({ POSTERN_FILE_BYTES: "30000000" });
    vm = await host.createVm({ users: [{ name: "developer" }] });
  }, 60_000);
  afterAll(() => host.close());

  const url = (path: string) => `/vms/${vm}/files?path=${encodeURIComponent(path)}`;
  const get = (path: string, user = "root") => host.request("GET", url(path), { vm, user, op: "files" });
  const put = (path: string, body: string | Uint8Array<ArrayBuffer>, user = "root") =>
    host.request("PUT", url(path), { vm, user, op: "files" }, { body });
  const shell = async (command: string, user = "root") => {
    const answer = (await (await host.exec(vm, user, { command })).json()) as { stdout: string };
    return answer.stdout;
  };
  const refusal = async (answer: Response) => [answer.status, ((await answer.json()) as { kind: string }).kind];

  test("reads back what was written, byte for byte", async () => {
    const bytes = new Uint8Array(randomBytes(20_000_000));
    expect((await put("/root/big", bytes)).status).toBe(200);
    const answer = await get("/root/big");
    expect([answer.headers.get("postern-file-kind"), answer.headers.get("content-length")]).toEqual(["file", "20000000"]);
    expect(sha256(await answer.bytes())).toBe(sha256(bytes));
  });

  test("reads an empty file", async () => {
    await put("/root/empty", "");
    expect(await (await get("/root/empty")).text()).toBe("");
  });

  test("reads a file whose size the kernel does not tell", async () => {
    expect(await (await get("/proc/self/status")).text()).toContain("Uid:");
  });

  test("lists a directory by kind", async () => {
    await shell("mkdir -p /root/listed/folder; echo x >/root/listed/file; ln -s file /root/listed/link");
    const answer = await get("/root/listed");
    expect(answer.headers.get("postern-file-kind")).toBe("directory");
    const { files } = (await answer.json()) as { files: { name: string; kind: string }[] };
    expect(files.sort((a, b) => a.name.localeCompare(b.name))).toEqual([
      { name: "file", kind: "file" },
      { name: "folder", kind: "directory" },
      { name: "link", kind: "symlink" },
    ]);
  });

  test("starts a relative path at the user's home", async () => {
    await put("notes/today.txt", "hello", "developer");
    expect(await shell("cat /home/developer/notes/today.txt; stat -c %U /home/developer/notes")).toBe("hellodeveloper\n");
    expect(await (await get("notes/today.txt", "developer")).text()).toBe("hello");
  });

  test("follows symbolic links, to files that do not exist yet too", async () => {
    await shell("rm -rf /root/links; mkdir -p /root/links; ln -s target /root/links/link");
    await put("/root/links/link", "through");
    expect(await shell("cat /root/links/target; stat -c %F /root/links/link")).toBe("throughsymbolic link\n");
    expect(await (await get("/root/links/link")).text()).toBe("through");
  });

  test("keeps mode and owner of a file that it replaces", async () => {
    await shell("echo old >/home/developer/kept; chown developer: /home/developer/kept; chmod 4750 /home/developer/kept");
    await put("/home/developer/kept", "new");
    expect(await shell("stat -c '%a %U' /home/developer/kept; cat /home/developer/kept")).toBe("4750 developer\nnew");
  });

  test("writes in place where only the file is open to the user", async () => {
    await shell("mkdir -p /home/closed; touch /home/closed/file; chown developer /home/closed/file; chmod 755 /home/closed");
    expect((await put("/home/closed/file", "mine", "developer")).status).toBe(200);
    expect(await shell("cat /home/closed/file; rm -r /home/closed")).toBe("mine");
  });

  test("leaves the old file and nothing else when an upload breaks off", async () => {
    await shell("mkdir -p /root/half; echo old >/root/half/file");
    const ticket = await host.edge.ticket(host.agent.id, { vm, user: "root", op: "files" });
    const { hostname, port } = new URL(host.agent.url);
    const socket = connect(Number(port), hostname);
    socket.on("error", () => undefined);
    const path = encodeURIComponent("/root/half/file");
    socket.write(
      `PUT /vms/${vm}/files?path=${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${ticket}\r\ncontent-length: 1000000\r\n\r\n`,
    );
    socket.write(Buffer.alloc(500_000));
    await until(async () => (await shell("ls -A /root/half | wc -l")) === "2\n", "the upload is under way");
    socket.destroy();
    await until(async () => (await shell("ls -A /root/half; cat /root/half/file")) === "file\nold\n", "the half file is gone");
  });

  test("ends a download of a file that shrinks in the middle as broken, never as whole", async () => {
    await shell("truncate -s 25000000 /root/shrinking");
    const answer = await get("/root/shrinking");
    await shell("truncate -s 10 /root/shrinking");
    const whole = await answer.bytes().then(
      (bytes) => bytes.length,
      () => "broken",
    );
    expect(whole).toBe("broken");
  });

  test.each([
    ["a missing file", "/root/missing", 404, "file-not-found"],
    ["a path below a file", "/etc/passwd/x", 404, "file-not-found"],
    ["a loop of links", "/root/loop", 404, "file-not-found"],
    ["a device", "/dev/zero", 400, "file-bad-request"],
    ["a FIFO", "/root/fifo", 400, "file-bad-request"],
    ["no path", "", 400, "file-bad-request"],
    ["a path with NUL", "/root/a\0b", 400, "file-bad-request"],
    ["a path too long", `/${"x".repeat(4096)}`, 400, "file-bad-request"],
  ])("refuses to read %s", async (_what, path, status, kind) => {
    await shell("cd /root; mkfifo fifo; ln -sf loop loop");
    expect(await refusal(await get(path))).toEqual([status, kind]);
  });

  test.each([
    ["reads", (path: string) => get(path, "developer")],
    ["writes", (path: string) => put(path, "x", "developer")],
  ])("%s only what Linux lets the user", async (_what, act) => {
    await shell("echo secret >/root/secret; chmod 700 /root");
    expect(await refusal(await act("/root/secret"))).toEqual([403, "file-access-denied"]);
    expect(await refusal(await act("/etc/shadow"))).toEqual([403, "file-access-denied"]);
  });

  test.each([
    ["a directory", "/root"],
    ["a device", "/dev/null"],
    ["below a file", "/etc/passwd/x"],
  ])("refuses to write %s", async (_what, path) => {
    expect((await put(path, "x")).status).toBeGreaterThanOrEqual(400);
    expect(await shell("stat -c %F /root /dev/null /etc/passwd")).toBe("directory\ncharacter special file\nregular file\n");
  });

  test("refuses a file beyond the limit and leaves nothing of it", async () => {
    const answer = await put("/root/huge/file", new Uint8Array(30_000_001));
    expect(await refusal(answer)).toEqual([413, "payload-too-large"]);
    expect(await shell("ls -A /root/huge")).toBe("");
  });

  test("names a Linux user that does not exist", async () => {
    expect(await refusal(await get("/etc/passwd", "nobody-here"))).toEqual([404, "linux-user-not-found"]);
  });
});
