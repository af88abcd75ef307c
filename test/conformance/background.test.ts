import { expect, test } from "vitest";
import { keyClient, newAccount, system, testVm } from "../system/fixture.ts";
import { expectRefusal, PACKAGE_63 } from "../system/sdk.ts";
import { keyClientV5, testIdentityV5, testVmV5, tokenClientV5 } from "../system/sdk-v5.ts";

/** Longer than 0.2 lets the edge wait for an answer. */
const SLOW = "sleep 7; echo late; id -un";

test("0.2 gets the answer of a slow command by polling, with a key and with an access token", async () => {
  const owner = keyClientV5((await newAccount()).apiKey);
  const { vm } = await testVmV5(owner);
  const { token } = await testIdentityV5(owner, vm);
  const answers = await Promise.all([vm.exec(SLOW), tokenClientV5(token).vms.ref(vm.id).exec(SLOW)]);
  for (const answer of answers) expect(answer).toMatchObject({ stdout: "late\nroot\n", statusCode: 0 });
});

test("0.2 is refused the result once its grant is gone, as if there were none", async () => {
  const owner = keyClientV5((await newAccount()).apiKey);
  const { vm } = await testVmV5(owner);
  const { identity, token } = await testIdentityV5(owner, vm);
  const slow = tokenClientV5(token).vms.ref(vm.id).exec("sleep 12; echo never");
  const refused = expect(slow).rejects.toMatchObject({ status: 404 });
  await vm.exec("sleep 6");
  await identity.permissions.vm.revoke(vm.id);
  await refused;
});

test("0.1.63 creates a VM by polling when it is given a logger", async () => {
  const client = keyClient(PACKAGE_63, (await newAccount()).apiKey);
  const { vmId } = await testVm(client, { logger: () => undefined } as never);
  expect(await client.vms.ref({ vmId }).exec("echo made")).toMatchObject({ stdout: "made\n" });
});

test("0.1.63 throws at once when such a create cannot be done", async () => {
  const client = keyClient(PACKAGE_63, (await newAccount()).apiKey);
  const options = { logger: () => undefined, snapshotId: "a".repeat(20) } as never;
  await expectRefusal(PACKAGE_63, client.vms.create(options), "SnapshotNotFoundError");
});

test("a poll by hand says 202 until the command has ended", async () => {
  const { apiKey } = await newAccount();
  const { vm } = await testVmV5(keyClientV5(apiKey));
  const headers = { authorization: `Bearer ${apiKey}`, "content-type": "application/json" };
  const begun = await fetch(`${system.apiUrl}/v5/vms/${vm.id}/exec-await`, {
    method: "POST",
    headers: { ...headers, "x-freestyle-background-after-secs": "0" },
    body: JSON.stringify({ command: "while [ ! -e /tmp/go ]; do sleep 0.1; done; echo gone" }),
  });
  expect(begun.status).toBe(202);
  const id = begun.headers.get("x-freestyle-background-request-id");
  const poll = () => fetch(`${system.apiUrl}/v5/background-requests/${id}`, { headers });
  expect((await poll()).status).toBe(202);
  await vm.exec("touch /tmp/go");
  await expect.poll(async () => (await poll()).status, { timeout: 20_000 }).toBe(200);
  const done = await poll();
  expect(done.headers.get("x-freestyle-background-request-id")).toBe(id);
  expect(await done.json()).toMatchObject({ stdout: "gone\n", statusCode: 0 });
});
