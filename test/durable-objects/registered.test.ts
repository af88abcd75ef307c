import { reset } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PLAIN_VM } from "../../durable-objects/vm-spec.ts";
import { forgetSigner } from "../../worker/tickets/signer.ts";
import { bindings, freshVmId, localRegion, must, newAccount, refusal } from "./objects.ts";
import { asked, script, scriptedHostUrl, setMachine } from "./scripted-host.ts";
import { joinHost } from "./verifiers.ts";

let account: Awaited<ReturnType<typeof newAccount>>;
let host: Awaited<ReturnType<typeof joinHost>>;
let vmId: string;

beforeEach(async () => {
  account = await newAccount();
  host = await joinHost({ url: scriptedHostUrl(), driver: "static" });
  vmId = freshVmId();
});
afterEach(async () => {
  await reset();
  forgetSigner();
});

const vm = () => bindings.VM.getByName(vmId);
const register = () =>
  vm().create(account.id, vmId, { ...PLAIN_VM, name: "box", registeredOn: { region: "local", hostId: host.id } });
const placed = async () => must(await (await localRegion()).listHosts()).map((one) => one.vmCount);

describe("a registered machine", () => {
  it("is a VM of its account, placed on its host", async () => {
    expect(must(await register())).toMatchObject({
      id: vmId,
      accountId: account.id,
      hostId: host.id,
      state: "running",
      name: "box",
    });
    expect(must(await vm().placement())).toMatchObject({ hostId: host.id });
    expect(await placed()).toEqual([1]);
  });

  it("may be down when it is registered", async () => {
    await setMachine(vmId, "stopped");
    await script(vmId, { op: "create", act: "stay" });
    expect(must(await register())).toMatchObject({ state: "stopped" });
    expect(must(await vm().start(account.id))).toMatchObject({ state: "running" });
  });

  it("cannot be deleted by its account, whatever it does", async () => {
    await register();
    for (const state of ["running", "stopped"] as const) {
      await setMachine(vmId, state);
      expect(refusal(await vm().remove(account.id))).toBe("unsupported");
    }
    expect(await asked(vmId)).not.toContain("delete");
    expect(must(await vm().read(account.id))).toMatchObject({ state: "running" });
  });

  it("is gone for everybody once it is unregistered, and its place is free", async () => {
    await register();
    expect(must(await vm().unregister(account.id))).toMatchObject({ state: "deleted" });
    expect(refusal(await vm().read(account.id))).toBe("vm-not-found");
    expect(refusal(await vm().placement())).toBe("vm-not-found");
    expect(await placed()).toEqual([0]);
  });

  it("of another account is not there", async () => {
    await register();
    const other = await newAccount();
    expect(refusal(await vm().remove(other.id))).toBe("vm-not-found");
    expect(refusal(await vm().unregister(other.id))).toBe("vm-not-found");
  });
});

it("a VM that was made cannot be unregistered", async () => {
  await joinHost({ url: scriptedHostUrl() });
  must(await vm().create(account.id, vmId, PLAIN_VM));
  expect(refusal(await vm().unregister(account.id))).toBe("unsupported");
});

it("no VM is made on a host of machines that are there already", async () => {
  expect(refusal(await vm().create(account.id, vmId, PLAIN_VM))).toBe("no-capacity");
  expect(await asked(vmId)).toEqual([]);
});
