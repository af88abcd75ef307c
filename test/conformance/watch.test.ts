import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { deleteVm, keyClient, newAccount, system, testIdentity, testVm, tokenClient } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { PACKAGE_63, type Sdk, type SdkVm } from "../system/sdk.ts";
import { wire } from "../system/wire.ts";

type FileEvent = { readonly eventType: string; readonly filename: string | null };

describe("watchFiles with freestyle 0.1.63", () => {
  let owner: Sdk;
  let apiKey: string;
  let vmId: string;
  let byToken: SdkVm;
  beforeAll(async () => {
    ({ apiKey } = await newAccount());
    owner = keyClient(PACKAGE_63, apiKey);
    ({ vmId } = await owner.vms.create({ users: [{ name: "alice" }] }));
    byToken = tokenClient(PACKAGE_63, (await testIdentity(owner, [{ vmId }])).token).vms.ref({ vmId });
  });
  afterAll(() => deleteVm(owner, vmId));

  /** Follows a watch until `isEnough`, then goes away as a program that leaves its loop does. */
  const follow = async (vm: SdkVm, isEnough: (events: readonly FileEvent[]) => boolean) => {
    const events: FileEvent[] = [];
    const watching = (async () => {
      for await (const event of await vm.fs.watchFiles()) {
        events.push(event);
        if (isEnough(events)) return;
      }
    })();
    return { events, watching };
  };

  test.each([
    ["root", "/root"],
    ["alice", "/home/alice"],
  ])("tells %s of changes below the home directory", async (username, home) => {
    const vm = byToken.user({ username });
    const { events, watching } = await follow(vm, (all) => all.some(({ filename }) => filename === "note"));
    await until("the event came", 20_000, async () => {
      await vm.fs.writeTextFile(`${home}/note`, "x");
      return events.length > 0 ? true : undefined;
    });
    await watching;
    expect(events.every(({ eventType }) => eventType === "rename" || eventType === "change")).toBe(true);
  });

  test("leaves nothing running in the VM once its caller goes away", async () => {
    // A VM of its own: the SDK does not let go of its watches as long as its process lives.
    const { vm, vmId: watched } = await testVm(owner);
    const watchers = async () => (await vm.exec("pgrep -x -c inotifywait")).stdout?.trim();
    const abort = new AbortController();
    const answer = await fetch(`${system.apiUrl}/v1/vms/${watched}/watch-files`, {
      method: "POST",
      headers: { authorization: `Bearer ${apiKey}` },
      signal: abort.signal,
    });
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "application/x-ndjson"]);
    expect(await watchers()).toBe("1");
    abort.abort();
    await until("the watcher is gone", 40_000, async () => ((await watchers()) === "0" ? true : undefined));
  });

  test.each([
    ["/absent", 404, "FILE_NOT_FOUND"],
    ["/etc/passwd", 400, "FILES_BAD_REQUEST"],
  ])("of %s is refused with a code that the SDK knows", async (path, status, code) => {
    const answer = await wire("POST", `/v1/vms/${vmId}/watch-files?path=${encodeURIComponent(path)}`, { apiKey });
    expect(answer).toMatchObject({ status, json: { code } });
  });

  test("is refused to who may not be that user", async () => {
    const { token } = await testIdentity(owner, [{ vmId, allowedUsers: ["alice"] }]);
    const answer = await wire("POST", `/v1/vms/${vmId}/watch-files`, { token });
    expect(answer).toMatchObject({ status: 403, json: { code: "VM_ACCESS_DENIED" } });
  });

  test("says what is missing in an image without inotifywait", async () => {
    const { vm, vmId: bare } = await testVm(owner);
    await vm.exec("rm $(command -v inotifywait)");
    const answer = await wire("POST", `/v1/vms/${bare}/watch-files`, { apiKey });
    expect(answer).toMatchObject({ status: 400, json: { code: "BAD_REQUEST", message: expect.stringContaining("inotify-tools") } });
  });
});
