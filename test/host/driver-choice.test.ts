import { expect, it } from "vitest";
import { chooseDriver, type HostMeans } from "../../host/drivers/choose.ts";

const means = (change: Partial<HostMeans>): HostMeans => ({
  before: null,
  root: true,
  podman: true,
  qemu: true,
  kvm: async () => ({ works: true }),
  ...change,
});
const lies = async () => ({ works: false, why: "a kernel did not come up on it" }) as const;

it("auto means virtual machines where KVM works", async () => {
  expect(await chooseDriver(means({}))).toEqual({ driver: "qemu", why: expect.stringContaining("KVM works") });
});

it("auto means containers where KVM does not, and says why", async () => {
  expect(await chooseDriver(means({ kvm: lies }))).toEqual({
    driver: "container",
    why: expect.stringContaining("a kernel did not come up on it"),
  });
});

it("auto stays with the driver that made what is there, whatever the host has come to have since", async () => {
  const never = async () => {
    throw new Error("KVM was looked at");
  };
  for (const before of ["container", "qemu"] as const) {
    expect(await chooseDriver(means({ before, kvm: never }))).toMatchObject({ driver: before });
  }
});

it("auto asks nothing of KVM, and boots nothing, where QEMU is not installed", async () => {
  const never = async () => {
    throw new Error("KVM was looked at");
  };
  expect(await chooseDriver(means({ qemu: false, kvm: never }))).toMatchObject({ driver: "container" });
});

it("auto means virtual machines without KVM only where there is no podman", async () => {
  expect(await chooseDriver(means({ podman: false, kvm: lies }))).toMatchObject({ driver: "qemu" });
});

it.each([
  ["without root", { root: false }, "must run as root"],
  ["without anything to make machines with", { podman: false, qemu: false }, "install podman"],
])("auto %s says what is missing", async (_what, change, words) => {
  await expect(chooseDriver(means(change))).rejects.toThrow(words);
});
