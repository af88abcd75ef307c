import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestHost, type TestHost } from "./support/test-host.ts";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

describe("files", () => {
  let host: TestHost;
  let vm: string;

  beforeAll(async () => {
    host = await startTestHost();
    vm = await host.createVm({ users: [{ name: "developer" }] });
  }, 60_000);
  afterAll(() => host.close());

  const files = (method: string, route: string, query: Record<string, string>, user = "root", init: RequestInit = {}) =>
    host.request(method, `/vms/${vm}/files${route}?${new URLSearchParams(query)}`, { vm, user, op: "files" }, init);
  const put = (query: Record<string, string>, body: string, user = "root") => files("PUT", "", query, user, { body });
  const read = (path: string, range: string) => files("GET", "", { path }, "root", { headers: { range } });
  const status = async (path: string, user = "root") => (await files("GET", "/status", { path }, user)).json();
  const remove = (path: string, user = "root") => files("DELETE", "", { path }, user);
  const makeDirectory = (path: string, user = "root") => files("POST", "/directory", { path }, user);
  const shell = async (command: string, user = "root") => {
    const answer = (await (await host.exec(vm, user, { command })).json()) as { stdout: string };
    return answer.stdout;
  };
  const refusal = async (answer: Response) => [answer.status, ((await answer.json()) as { kind: string }).kind];

  describe("read in part", () => {
    test.each([
      ["bytes=2-4", 206, "bytes 2-4/10", "234"],
      ["bytes=7-", 206, "bytes 7-9/10", "789"],
      ["bytes=-2", 206, "bytes 8-9/10", "89"],
      ["bytes=8-99", 206, "bytes 8-9/10", "89"],
      ["bytes=x", 200, null, "0123456789"],
    ])("%s", async (range, code, contentRange, text) => {
      await shell("printf 0123456789 >/root/ten");
      const answer = await read("/root/ten", range);
      expect([answer.status, answer.headers.get("content-range"), await answer.text()]).toEqual([code, contentRange, text]);
    });

    test("crosses the blocks in which a file is read", async () => {
      await shell("seq 1 200000 >/root/numbers");
      const whole = await shell("cat /root/numbers");
      const answer = await read("/root/numbers", "bytes=131070-400000");
      expect(await answer.text()).toBe(whole.slice(131_070, 400_001));
    });

    test("also where the kernel does not tell the size", async () => {
      const whole = await shell("cat /proc/version");
      const answer = await read("/proc/version", "bytes=2-6");
      expect([answer.status, await answer.text()]).toEqual([206, whole.slice(2, 7)]);
    });

    test.each(["bytes=10-", "bytes=5-4", "bytes=-0"])("is refused with the size as %s", async (range) => {
      await shell("printf 0123456789 >/root/ten");
      const answer = await read("/root/ten", range);
      expect(answer.status).toBe(416);
      expect(await answer.json()).toMatchObject({ kind: "range-not-satisfiable", details: { size: 10 } });
    });

    test("is refused of an empty file", async () => {
      await shell(": >/root/nothing");
      expect((await read("/root/nothing", "bytes=0-")).status).toBe(416);
    });
  });

  describe("read as one kind", () => {
    test.each([
      ["a directory as a file", "/root", "file"],
      ["a file as a directory", "/etc/passwd", "directory"],
    ])("refuse %s", async (_what, path, kind) => {
      expect(await refusal(await files("GET", "", { path, kind }))).toEqual([400, "file-bad-request"]);
    });

    test.each(["pipe", ""])("refuse the kind %j, which there is not", async (kind) => {
      expect(await refusal(await files("GET", "", { path: "/etc/passwd", kind }))).toEqual([400, "bad-request"]);
    });
  });

  describe("written", () => {
    test("with a mode get that mode, new or not, whatever the umask", async () => {
      for (const mode of ["493", "511", "256"]) {
        expect((await put({ path: "/root/moded", mode }, "x")).status).toBe(200);
        expect(await shell("stat -c %a /root/moded")).toBe(`${Number(mode).toString(8)}\n`);
      }
    });

    test("with a mode for new files keep the one they have", async () => {
      await put({ path: "/root/fresh/file", newMode: "384" }, "x");
      expect(await shell("stat -c %a /root/fresh/file")).toBe("600\n");
      await shell("chmod 755 /root/fresh/file");
      await put({ path: "/root/fresh/file", newMode: "384" }, "y");
      expect(await shell("stat -c %a /root/fresh/file")).toBe("755\n");
    });

    test("by a user with a mode that closes them to that user", async () => {
      for (const text of ["one", "two"]) {
        expect((await put({ path: "/home/developer/closed", mode: "0" }, text, "developer")).status).toBe(200);
        expect(await shell("stat -c '%a %U' /home/developer/closed; cat /home/developer/closed")).toBe(`0 developer\n${text}`);
      }
    });

    test("with their SHA-256 are taken, in either place", async () => {
      expect((await put({ path: "/root/summed", sha256: sha256("right") }, "right")).status).toBe(200);
      expect(await shell("cat /root/summed")).toBe("right");
    });

    test.each(["beside", "in place"])("with another SHA-256 leave the old file and nothing else (%s)", async (where) => {
      await shell("rm -rf /home/sum; mkdir /home/sum; echo old >/home/sum/file; chown developer /home/sum/file");
      if (where === "beside") await shell("chown developer /home/sum");
      const answer = await put({ path: "/home/sum/file", sha256: sha256("right") }, "wrong", "developer");
      expect(await refusal(answer)).toEqual([400, "file-bad-request"]);
      expect(await shell("ls -A /home/sum /var/tmp | grep postern; cat /home/sum/file")).toBe("old\n");
    });

    test("over a mount point, which no file can replace, are written in place", async () => {
      await shell("echo old >/root/mounted; echo beneath >/root/beneath; mount --bind /root/beneath /root/mounted");
      expect((await put({ path: "/root/mounted", mode: "416" }, "new")).status).toBe(200);
      expect(await shell("cat /root/beneath; stat -c %a /root/mounted; ls -A /root | grep postern; umount /root/mounted")).toBe(
        "new640\n",
      );
    });

    test.each([
      ["mode", "4096"],
      ["mode", "0x1"],
      ["mode", "-1"],
      ["mode", "rw"],
      ["newMode", "99999"],
      ["sha256", "abc"],
      ["sha256", "g".repeat(64)],
    ])("with the %s %j are refused before anything happens", async (name, value) => {
      expect(await refusal(await put({ path: "/root/never", [name]: value }, "x"))).toEqual([400, "bad-request"]);
      expect(await shell("ls /root/never 2>&1 | wc -l; ls -A /root | grep postern")).toBe("1\n");
    });

    test("under a name that ends as a directory's are refused", async () => {
      expect(await refusal(await put({ path: "/root/named/" }, "x"))).toEqual([400, "file-bad-request"]);
      expect(await refusal(await put({ path: "/etc/passwd/" }, "x"))).toEqual([400, "file-bad-request"]);
    });

    test("resolve '..' as Linux does, behind links", async () => {
      await shell("mkdir -p /root/far/inner; ln -sfn far/inner /root/near");
      await put({ path: "/root/near/../file" }, "x");
      expect(await shell("ls /root/far")).toBe("file\ninner\n");
    });
  });

  describe("described", () => {
    test("by kind, size, mode, owner, group and time", async () => {
      await shell(
        "printf abc >/root/told; chown developer:games /root/told; chmod 4640 /root/told; touch -d @1700000000 /root/told",
      );
      expect(await status("/root/told")).toEqual({
        kind: "file",
        isSymlink: false,
        size: 3,
        mode: 0o4640,
        owner: "developer",
        group: "games",
        modifiedAt: 1_700_000_000_000,
      });
    });

    test("by number where a user or group has no name", async () => {
      await shell("touch /root/orphan; chown 54321:54322 /root/orphan");
      expect(await status("/root/orphan")).toMatchObject({ owner: "54321", group: "54322" });
    });

    test("a link by what it leads to, and as itself when that is nothing", async () => {
      await shell("cd /root; mkdir -p dir; ln -sfn dir to-dir; ln -sfn nowhere to-nothing");
      expect(await status("/root/to-dir")).toMatchObject({ kind: "directory", isSymlink: true });
      expect(await status("/root/to-nothing")).toMatchObject({ kind: "symlink", isSymlink: true });
      expect(await status("/dev/null")).toMatchObject({ kind: "other", isSymlink: false });
    });

    test.each([
      ["missing", "/root/missing", 404, "file-not-found"],
      ["below a file", "/etc/passwd/x", 404, "file-not-found"],
      ["with NUL", "/root/a\0b", 400, "file-bad-request"],
      ["too long", `/${"x".repeat(4096)}`, 400, "file-bad-request"],
      ["with a name too long", `/${"x".repeat(256)}`, 400, "file-bad-request"],
      ["that is empty", "", 400, "file-bad-request"],
    ])("not at a path %s", async (_what, path, code, kind) => {
      expect(await refusal(await files("GET", "/status", { path }))).toEqual([code, kind]);
      expect(await refusal(await remove(path))).toEqual([code, kind]);
    });

    test("only where the user may look", async () => {
      await shell("chmod 700 /root");
      expect(await refusal(await files("GET", "/status", { path: "/root/told" }, "developer"))).toEqual([
        403,
        "file-access-denied",
      ]);
    });
  });

  describe("directories", () => {
    test("are made with their parents, and again without complaint", async () => {
      for (let time = 1; time <= 2; time += 1) expect((await makeDirectory("/root/a/b c/ü")).status).toBe(200);
      expect(await shell("stat -c '%F %U' '/root/a/b c/ü'")).toBe("directory root\n");
      expect((await makeDirectory("relative/one", "developer")).status).toBe(200);
      expect(await shell("stat -c %U /home/developer/relative/one")).toBe("developer\n");
    });

    test.each([
      ["where a file is", "/etc/passwd", "root", 400, "file-bad-request"],
      ["below a file", "/etc/passwd/x", "root", 404, "file-not-found"],
      ["where the user may not", "/etc/mine", "developer", 403, "file-access-denied"],
    ])("are not made %s", async (_what, path, user, code, kind) => {
      expect(await refusal(await makeDirectory(path, user))).toEqual([code, kind]);
    });
  });

  describe("removed", () => {
    test("are files, links but not what they lead to, and whole directories", async () => {
      await shell("cd /root; mkdir -p gone/deep; touch gone/deep/file keep; ln -s ../keep gone/link; ln -sfn keep alone");
      expect((await remove("/root/alone")).status).toBe(200);
      expect((await remove("/root/gone")).status).toBe(200);
      expect(await shell("cd /root; ls -d alone gone keep 2>/dev/null")).toBe("keep\n");
    });

    test.each(["-rf", "$(id)", "a'b\"c", "*", " ", "\n", "ü 文"])("is exactly %j and nothing else", async (name) => {
      await shell(`mkdir -p /root/odd/${JSON.stringify("keep")}`);
      await makeDirectory(`/root/odd/${name}/inner`);
      expect((await remove(`/root/odd/${name}`)).status).toBe(200);
      expect(await shell("ls -A /root/odd")).toBe("keep\n");
    });

    test("is not what the user may not remove", async () => {
      await shell("mkdir -p /home/others/dir; touch /home/others/dir/file");
      expect(await refusal(await remove("/home/others/dir", "developer"))).toEqual([403, "file-access-denied"]);
      expect(await refusal(await remove("/home/others/dir/file", "developer"))).toEqual([403, "file-access-denied"]);
      expect(await shell("ls /home/others/dir")).toBe("file\n");
    });

    test("not through a link out of the user's reach", async () => {
      await shell("mkdir -p /root/vault/dir; chmod 700 /root; ln -sfn /root/vault /home/developer/out");
      for (const path of ["/home/developer/out/dir", "/home/developer/out/dir/"]) {
        expect(await refusal(await remove(path, "developer"))).toEqual([403, "file-access-denied"]);
      }
      expect(await refusal(await put({ path: "/home/developer/out/file" }, "x", "developer"))).toEqual([403, "file-access-denied"]);
      expect(await shell("ls /root/vault")).toBe("dir\n");
    });
  });

  test("need a ticket for files", async () => {
    const path = `/vms/${vm}/files?path=%2Fetc%2Fpasswd`;
    for (const op of ["exec", "terminal", "ssh"] as const) {
      for (const [method, route] of [
        ["DELETE", path],
        ["GET", `/vms/${vm}/files/status?path=%2F`],
        ["POST", `/vms/${vm}/files/watch`],
        ["POST", `/vms/${vm}/uploads`],
      ] as const) {
        expect((await host.request(method, route, { vm, user: "root", op })).status).toBe(401);
      }
    }
    expect(await shell("ls /etc/passwd")).toBe("/etc/passwd\n");
  });
});
