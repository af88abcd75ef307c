import { expect, it } from "vitest";
import { type QemuMachine, qemuArguments } from "../../host/drivers/qemu/command-line.ts";

const MACHINE: QemuMachine = {
  name: "a".repeat(20),
  machineType: "pc-q35-7.2",
  acceleration: "tcg",
  translationCacheMib: 64,
  cpus: 1,
  memoryMib: 512,
  kernel: "/cache/kernel",
  initrd: "/cache/initrd",
  kernelWords: ["postern.name=a"],
  disk: "/state/a,b/disk.qcow2",
  seed: "/state/a,b/seed",
  tap: "pv0",
  mac: "02:50:00:00:00:02",
  runDir: "/run/a",
  console: "/state/a,b/console.log",
  uid: 1_900_000_000,
  incoming: false,
};
const valuesOf = (args: readonly string[], option: string) => args.filter((_value, index) => args[index - 1] === option);

it("a comma in a path cannot add an option to a device", () => {
  const args = qemuArguments(MACHINE);
  for (const value of [...valuesOf(args, "-blockdev"), ...valuesOf(args, "-chardev").slice(0, 1)]) {
    expect(value).toContain("/state/a,,b/");
  }
});

it("a copy has the golden machine's hardware in the golden machine's order", () => {
  const hardware = ["-machine", "-accel", "-cpu", "-smp", "-m"];
  const golden = qemuArguments({ ...MACHINE, memoryFile: { path: "/cache/memory", way: "shared" }, uid: null });
  const copy = qemuArguments({ ...MACHINE, memoryFile: { path: "/cache/memory", way: "private" }, incoming: true, tap: "pv1" });
  for (const option of hardware) expect(valuesOf(copy, option)).toEqual(valuesOf(golden, option));
  const devices = (args: readonly string[]) =>
    [...valuesOf(args, "-device"), ...valuesOf(args, "-serial")].map((value) => value.split(",")[0]);
  expect(devices(copy)).toEqual(devices(golden));
});

it("no machine writes to the golden machine's memory, which is another's", () => {
  const [copy] = valuesOf(qemuArguments({ ...MACHINE, memoryFile: { path: "/m", way: "private" } }), "-object");
  expect(copy).toContain("share=off");
});

it("nothing runs before it is told to, nothing may start processes, nobody outside is listened to", () => {
  const args = qemuArguments(MACHINE);
  expect(args).toContain("-S");
  expect(valuesOf(args, "-runas")).toEqual(["1900000000:1900000000"]);
  expect(valuesOf(args, "-sandbox")[0]).toContain("spawn=deny");
  expect(valuesOf(args, "-netdev")[0]).toContain("script=no");
  expect(args.join(" ")).not.toMatch(/tcp:|vnc|-monitor/);
});
