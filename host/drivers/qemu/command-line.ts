/** What a machine's QEMU is started with. */
export interface QemuMachine {
  /** Shown in process lists. */
  readonly name: string;
  /** Version and all, such as `pc-q35-7.2`: memory that was saved fits no other, and a newer QEMU still has it. */
  readonly machineType: string;
  readonly acceleration: "kvm" | "tcg";
  readonly translationCacheMib: number;
  readonly cpus: number;
  readonly memoryMib: number;
  /** Memory that lies in a file: `shared`, to be written there; `private`, to begin with what is in it. */
  readonly memoryFile?: { readonly path: string; readonly way: "shared" | "private" };
  readonly kernel: string;
  readonly initrd: string;
  /** Words of the kernel's command line beside the fixed ones. */
  readonly kernelWords: readonly string[];
  readonly disk: string;
  readonly seed: string;
  /** Name of the TAP interface, which QEMU makes and the kernel takes away with it. */
  readonly tap: string;
  readonly mac: string;
  /** Folder of sockets and pid file; `console.log` is beside the disk. */
  readonly runDir: string;
  readonly console: string;
  /** User and group id that QEMU goes on as once everything is open. */
  readonly uid: number | null;
  /** Memory comes from elsewhere: see `migrate-incoming` of QMP. */
  readonly incoming: boolean;
}

/**
 * The arguments of `qemu-system-x86_64` (qemu(1)). Nothing runs before it is told to by QMP. What is not said to differ must
 * stay the same between a machine and the one whose memory it begins with: devices are known by their order.
 */
export function qemuArguments(machine: QemuMachine): readonly string[] {
  const { acceleration, memoryFile, memoryMib, runDir, uid } = machine;
  const size = `size=${memoryMib}M`;
  const memory =
    memoryFile === undefined
      ? `memory-backend-ram,id=pc.ram,${size}`
      : `memory-backend-file,id=pc.ram,${size},mem-path=${escaped(memoryFile.path)},share=${memoryFile.way === "shared" ? "on" : "off"}`;
  return [
    ...["-name", machine.name, "-nodefaults", "-no-user-config", "-display", "none"],
    // microvm hangs without KVM: the kernel cannot calibrate its timer there.
    ...["-machine", `${machine.machineType},memory-backend=pc.ram`],
    ...["-accel", acceleration === "kvm" ? "kvm" : `tcg,tb-size=${machine.translationCacheMib}`],
    ...["-cpu", acceleration === "kvm" ? "host" : "max", "-smp", String(machine.cpus), "-m", `${memoryMib}M`],
    ...["-object", memory],
    ...["-kernel", machine.kernel, "-initrd", machine.initrd],
    ...["-append", ["console=ttyS0", "quiet", "net.ifnames=0", ...machine.kernelWords].join(" ")],
    ...["-blockdev", `driver=qcow2,node-name=root,file.driver=file,file.filename=${escaped(machine.disk)},discard=unmap`],
    ...["-device", "virtio-blk-pci,drive=root"],
    ...["-blockdev", `driver=raw,node-name=seed,read-only=on,file.driver=file,file.filename=${escaped(machine.seed)}`],
    ...["-device", "virtio-blk-pci,drive=seed"],
    ...["-netdev", `tap,id=net,ifname=${machine.tap},script=no,downscript=no`],
    ...["-device", `virtio-net-pci,netdev=net,mac=${machine.mac},romfile=`],
    ...["-chardev", `file,id=console,path=${escaped(machine.console)}`, "-serial", "chardev:console"],
    ...["-chardev", `socket,id=agent,path=${escaped(runDir)}/agent,server=on,wait=off`, "-serial", "chardev:agent"],
    ...["-qmp", `unix:${escaped(runDir)}/qmp,server=on,wait=off`],
    // The guest's clock goes on while it sleeps.
    ...["-rtc", "base=utc,clock=host"],
    ...["-S", "-pidfile", `${runDir}/pid`],
    ...(uid === null ? [] : ["-runas", `${uid}:${uid}`]),
    ...["-sandbox", "on,obsolete=deny,spawn=deny,resourcecontrol=deny"],
    ...(machine.incoming ? ["-incoming", "defer"] : []),
  ];
}

/** A value among QEMU's comma-separated ones. */
function escaped(value: string): string {
  return value.replaceAll(",", ",,");
}
