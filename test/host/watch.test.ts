import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { failure, success } from "../../protocol/failures.ts";
import type { FileEvent } from "../../protocol/host-api.ts";
import type { TicketClaims } from "../../protocol/ticket.ts";
import { startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

/** A watch under way, with what it told so far. */
interface Watching {
  readonly events: FileEvent[];
  /** Settles when the answer ends, either way. */
  readonly ended: Promise<void>;
  stop(): void;
}

describe("a watch", () => {
  let host: TestHost;
  let vm: string;

  beforeAll(async () => {
    host = await startTestHost({ POSTERN_VM_WATCHES: "3", POSTERN_WATCH_PING_MS: "100" });
    vm = await host.createVm({ users: [{ name: "developer" }] });
  }, 60_000);
  afterAll(() => host.close());

  const open = (path: string | null, user = "root", init: RequestInit = {}, claims: Partial<TicketClaims> = {}) => {
    const query = path === null ? "" : `?path=${encodeURIComponent(path)}`;
    return host.request("POST", `/vms/${vm}/files/watch${query}`, { vm, user, op: "files", ...claims }, init);
  };
  const watch = async (path: string | null, user = "root", claims: Partial<TicketClaims> = {}): Promise<Watching> => {
    const abort = new AbortController();
    const answer = await open(path, user, { signal: abort.signal }, claims);
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "application/x-ndjson"]);
    const events: FileEvent[] = [];
    onTestFinished(() => abort.abort());
    return { events, ended: collect(answer, events), stop: () => abort.abort() };
  };
  const shell = async (command: string, user = "root") => {
    const answer = (await (await host.exec(vm, user, { command })).json()) as { stdout: string };
    return answer.stdout;
  };
  const watchers = async () => Number(await shell("pgrep -c inotifywait || true"));
  const refusal = async (answer: Response) => [answer.status, ((await answer.json()) as { kind: string }).kind];
  const names = ({ events }: Watching) => new Set(events.map(({ eventType, filename }) => `${eventType} ${filename}`));

  test("tells of files that are made, written, renamed and removed, in the words of fs.watch", async () => {
    await shell("mkdir -p /root/watched/inner; touch /root/watched/old");
    const watching = await watch("/root/watched");
    await shell("cd /root/watched; touch new; echo x >>old; mv new inner/moved; rm old");
    const expected = ["rename new", "change old", "rename inner/moved", "rename old"];
    await until(() => expected.every((event) => names(watching).has(event)), "every event came");
    watching.stop();
  });

  test("goes into directories that are made later, and keeps odd names whole", async () => {
    await shell("mkdir -p /root/grows");
    const watching = await watch("/root/grows");
    await shell("mkdir /root/grows/sub");
    await until(async () => {
      await shell("touch /root/grows/sub/probe");
      return names(watching).has("rename sub/probe");
    }, "the new directory is watched");
    await shell("cd /root/grows/sub; touch -- 'a b' '-x' 'ü文🦊' \"$(printf 'line\\nbreak')\" '.postern-no'");
    const expected = ["a b", "-x", "ü文🦊", "line\nbreak", ".postern-no"].map((name) => `rename sub/${name}`);
    await until(() => expected.every((event) => names(watching).has(event)), "every name came");
    watching.stop();
  });

  test("begins at the user's home when no directory is named, as that user", async () => {
    const watching = await watch(null, "developer");
    expect(await shell("ps -o user= -C inotifywait")).toBe("developer\n");
    await shell("echo x >~/note", "developer");
    await until(() => names(watching).has("rename note"), "the event came");
    watching.stop();
    await until(async () => (await watchers()) === 0, "the watcher is gone");
  });

  test("tells of a file that is written through the host by its own name alone", async () => {
    await shell("mkdir -p /root/whole");
    const watching = await watch("/root/whole");
    await host.request("PUT", `/vms/${vm}/files?path=/root/whole/file`, { vm, user: "root", op: "files" }, { body: "x" });
    await until(() => watching.events.length > 0, "an event came");
    expect(new Set(watching.events.map(({ filename }) => filename))).toEqual(new Set(["file"]));
    watching.stop();
  });

  test("leaves no process when its caller goes away, though nothing ever happened", async () => {
    await until(async () => (await watchers()) === 0, "earlier watchers are gone");
    const watching = await watch("/root");
    expect(await watchers()).toBe(1);
    watching.stop();
    await until(async () => (await shell("pgrep -fc '[P]OSTERN_PATH' || true")) === "0\n", "nothing is left of it");
    expect(await watchers()).toBe(0);
  });

  test("ends when the VM is stopped", async () => {
    const other = await host.createVm();
    const answer = await host.request("POST", `/vms/${other}/files/watch`, { vm: other, user: "root", op: "files" });
    const ended = collect(answer, []);
    await host.request("POST", `/vms/${other}/stop`, { vm: other, op: "stop" });
    await ended;
  });

  describe("when its caller's access changes", () => {
    test.each([
      ["is cut when it is revoked", "identity:bbbbbbbbbbbbbbbb", failure("credential-invalid", "revoked")],
      ["goes on when it is only narrowed elsewhere", "identity:cccccccccccccccc", success({ epoch: 1000 })],
    ] as const)("%s", async (_what, sub, answer) => {
      await until(async () => (await watchers()) === 0, "earlier watchers are gone");
      host.edge.checked.length = 0;
      const watching = await watch("/root", "root", { sub, epoch: 500 });
      host.edge.onSessionCheck = () => answer;
      host.edge.send({ type: "floor", floor: { sub, epoch: 1000, at: Date.now() } });
      await until(() => host.edge.checked.length > 0, "the edge was asked");
      expect(host.edge.checked[0]).toMatchObject({ vmId: vm, linuxUser: "root", operation: "files", subject: sub });
      if (answer.ok) {
        await shell("touch /root/still-watched");
        await until(() => watching.events.length > 0, "an event came");
        return;
      }
      await watching.ended;
      await until(async () => (await watchers()) === 0, "the watcher is gone");
    });
  });

  describe("is refused", () => {
    test.each([
      ["of a file", "/etc/passwd", "root", 400, "file-bad-request"],
      ["of nothing", "/root/absent", "root", 404, "file-not-found"],
      ["of a path with NUL", "/root/a\0b", "root", 400, "file-bad-request"],
      ["of a path too long", `/${"x".repeat(4096)}`, "root", 400, "file-bad-request"],
      ["of a directory closed to the user", "/root/closed", "developer", 403, "file-access-denied"],
      ["of a directory that the user may not enter", "/home/closed", "developer", 403, "file-access-denied"],
    ])("%s", async (_what, path, user, code, kind) => {
      await shell("chmod 700 /root; mkdir -p /root/closed /home/closed; chmod 700 /home/closed");
      expect(await refusal(await open(path, user))).toEqual([code, kind]);
    });

    test.each(["$(touch /root/pwned)", "'; touch /root/pwned; '", "-m", "@x"])(
      "for a name that a shell could read: %j",
      async (name) => {
        expect((await open(`/root/${name}`)).status).toBe(404);
        expect((await open(name)).status).toBe(404);
        expect(await shell("ls /root/pwned 2>/dev/null")).toBe("");
      },
    );

    test("beyond the number that a VM may have, which ended ones do not count towards", async () => {
      const watchings = [await watch("/root"), await watch("/root"), await watch("/root")];
      expect(await refusal(await open("/root"))).toEqual([403, "quota-exceeded"]);
      for (const { stop } of watchings) stop();
      await until(async () => {
        const answer = await open("/root", "root", { signal: AbortSignal.timeout(2000) });
        await answer.body?.cancel();
        return answer.ok;
      }, "a watch may begin again");
    });

    test("with what to do, where the image has no inotifywait", async () => {
      await shell("mount --bind /dev/null $(command -v inotifywait)");
      const answer = await open("/root", "root");
      expect(answer.status).toBe(400);
      expect(await answer.json()).toMatchObject({ kind: "unsupported", message: expect.stringContaining("inotify-tools") });
    });
  });
});

async function collect(answer: Response, into: FileEvent[]): Promise<void> {
  let text = "";
  try {
    for await (const chunk of (answer.body ?? []) as AsyncIterable<Uint8Array>) {
      text += Buffer.from(chunk).toString("utf8");
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) if (line !== "") into.push(JSON.parse(line) as FileEvent);
    }
  } catch {
    // Cut, by one side or the other.
  }
}
