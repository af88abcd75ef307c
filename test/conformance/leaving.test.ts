import { expect, test } from "vitest";
import { keyClient, newAccount, system, testVm } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { PACKAGE_46, PACKAGES } from "../system/sdk.ts";
import { wire } from "../system/wire.ts";

/** A client's `fetch` whose requests end when `leave` is called, as they do when a program is killed or a page is closed. */
function leaving() {
  const controller = new AbortController();
  const leavingFetch: typeof fetch = (input, init) => fetch(input, { ...init, signal: controller.signal });
  return { fetch: leavingFetch, leave: () => controller.abort() };
}

test.each(PACKAGES)("a command whose client of $name leaves is ended with all that it began", async (from) => {
  const { apiKey } = await newAccount();
  const { vm, vmId } = await testVm(keyClient(from, apiKey));
  const { fetch: leavingFetch, leave } = leaving();
  const options = { baseUrl: system.apiUrl, apiKey, fetch: leavingFetch };
  const left = new from.Freestyle(options).vms.ref({ vmId }).exec("(sleep 7311 &); sleep 7311");
  const refused = expect(left).rejects.toThrow();
  const count = async () => Number((await vm.exec("pgrep -fc '^[s]leep 7311'")).stdout);
  await until("the command runs", 20_000, async () => ((await count()) === 2 ? true : undefined));
  leave();
  await refused;
  await until("the command is gone", 20_000, async () => ((await count()) === 0 ? true : undefined));
});

test("a VM whose client leaves before it is told the id is undone, and one that an Idempotency-Key names stays", async () => {
  const { apiKey } = await newAccount();
  const owner = keyClient(PACKAGE_46, apiKey);
  // So many that it takes longer to make them than to notice that the client has left (POSTERN_LEFT_CLIENTS_MS).
  const body = { users: Array.from({ length: 25 }, (_, index) => ({ name: `user${index}` })) };
  const start = (headers: Record<string, string>) => {
    const { fetch: leavingFetch, leave } = leaving();
    const sent = leavingFetch(`${system.apiUrl}/v1/vms`, {
      method: "POST",
      headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    }).catch(() => null);
    return { sent, leave };
  };
  const seen = async () => (await owner.vms.list()).totalCount;

  const unnamed = start({});
  await until("the creation is under way", 20_000, async () => ((await seen()) === 1 ? true : undefined));
  unnamed.leave();
  expect(await unnamed.sent).toBeNull();
  await until("the VM is undone", 30_000, async () => ((await seen()) === 0 ? true : undefined));

  const key = { "idempotency-key": "left" };
  const named = start(key);
  await until("the creation is under way", 20_000, async () => ((await seen()) === 1 ? true : undefined));
  named.leave();
  expect(await named.sent).toBeNull();
  const again = await wire("POST", "/v1/vms", { apiKey }, body, key);
  expect(again.status).toBe(200);
  const list = await owner.vms.list();
  expect(list.vms).toMatchObject([{ id: again.json.id, state: "running" }]);
  await owner.vms.delete({ vmId: String(again.json.id) });
}, 120_000);
