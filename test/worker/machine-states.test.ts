import { runInDurableObject } from "cloudflare:test";
import { beforeAll, describe, expect, it } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newObjectName, newVmId } from "../../protocol/ids.ts";
import { MAX_REPORTED_STATES, type MachineStatesAnswer } from "../../protocol/service-api.ts";
import { bindings } from "../durable-objects/objects.ts";
import { enrolService } from "./support/services.ts";
import { call, must, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

/** Later than whatever the objects have seen. */
const LATER = Date.now() + 60_000;

describe("POST /service/v1/machine-states", () => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld();
  });

  const tell = async (states: unknown, service = world.hostService) =>
    call("/service/v1/machine-states", { method: "POST", key: await service.assertion(), body: { states } });
  const shown = async (vm: string) => (await must<{ state: string }>(`/v1/vms/${vm}`, { key: world.account.key })).state;
  const freshId = () => newVmId(platformRandomBytes);

  it("takes the states of many VMs at once from the host that they are placed on", async () => {
    const [first, second] = [await newVm(world.account), await newVm(world.account)];
    const answer = await tell([
      { vm: first, state: "suspended", at: LATER },
      { vm: second, state: "stopped", at: LATER },
    ]);
    expect([answer.status, await answer.json()]).toEqual([200, { untold: [] }]);
    expect([await shown(first), await shown(second)]).toEqual(["suspended", "stopped"]);
  });

  it("believes no other host of the region, and says nothing about whose the VM is", async () => {
    const vm = await newVm(world.account);
    const stranger = await enrolService(world.serviceKey, { kind: "host", hostId: newObjectName(platformRandomBytes) });
    const about = async (id: string) => {
      const answer = await tell([{ vm: id, state: "missing", at: LATER }], stranger);
      return [answer.status, await answer.json()];
    };
    expect(await about(vm)).toEqual(await about(freshId()));
    expect(await shown(vm)).toBe("running");
  });

  it("is refused to forwarders and to everybody without a host's assertion, and an assertion is good once", async () => {
    const vm = await newVm(world.account);
    const body = { states: [{ vm, state: "stopped", at: LATER }] };
    const identity = await newIdentity(world.account, [vm]);
    const used = await world.hostService.assertion();
    expect((await call("/service/v1/machine-states", { method: "POST", key: used, body: { states: [] } })).status).toBe(400);
    const keys = [used, await world.forwarder.assertion(), world.serviceKey, world.account.key, identity.token, "x"];
    for (const key of keys) {
      const answer = await call("/service/v1/machine-states", { method: "POST", key, body });
      expect([answer.status, (await answer.json<{ kind: string }>()).kind]).toEqual([401, "service-key-refused"]);
    }
    expect(await shown(vm)).toBe("running");
  });

  it.each<[string, unknown]>([
    ["no states", []],
    ["a state that there is not", [{ vm: freshId(), state: "deleted", at: 1 }]],
    ["no VM's id", [{ vm: "../x", state: "running", at: 1 }]],
    ["no time", [{ vm: freshId(), state: "running" }]],
    [
      "more than a report holds",
      Array.from({ length: MAX_REPORTED_STATES + 1 }, () => ({ vm: freshId(), state: "running", at: 1 })),
    ],
  ])("refuses %s", async (_what, states) => {
    const answer = await tell(states);
    expect([answer.status, (await answer.json<{ kind: string }>()).kind]).toEqual([400, "bad-request"]);
  });

  it("names the VMs that could not be told, and tells the others", async () => {
    const [broken, good] = [await newVm(world.account), await newVm(world.account)];
    await runInDurableObject(bindings.VM.getByName(broken), (_object, { storage }) =>
      storage.sql.exec("ALTER TABLE vm RENAME TO vm_broken"),
    );
    const states = [broken, good].map((vm) => ({ vm, state: "suspended", at: LATER }));
    const answer = await (await tell(states)).json<MachineStatesAnswer>();
    expect(answer).toEqual({ untold: [broken] });
    expect(await shown(good)).toBe("suspended");
  });
});
