import { createServer } from "node:net";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { createContainerDriver } from "../../host/drivers/container.ts";
import { DEFAULT_CONTAINER_SETTINGS } from "../../host/drivers/container-settings.ts";
import { createLog } from "../../service/log.ts";
import { CACHE_DIR, openWorld, type TestMachine, type World } from "./guest-world.ts";

const MOST_PROCESSES = 200;

/** Numbers of system calls for which the guest has no command, on x64 and on arm64. */
const CALLS = {
  init_module: [175, 105],
  kexec_load: [246, 104],
  reboot: [169, 142],
  settimeofday: [164, 170],
  swapon: [167, 224],
  bpf: [321, 280],
  perf_event_open: [298, 241],
  open_by_handle_at: [304, 265],
  userfaultfd: [323, 282],
  io_uring_setup: [425, 425],
  add_key: [248, 217],
  keyctl: [250, 219],
  finit_module: [313, 273],
  delete_module: [176, 106],
  kexec_file_load: [320, 294],
  setns: [308, 268],
  pivot_root: [155, 41],
  quotactl: [179, 60],
  acct: [163, 89],
  fanotify_init: [300, 262],
  fsopen: [430, 430],
  open_tree: [428, 428],
  move_mount: [429, 429],
  mount_setattr: [442, 442],
};
const call = ([x64, arm64]: readonly number[]) =>
  `perl -e 'syscall(${process.arch === "arm64" ? arm64 : x64}, 0, 0, 0, 0, 0) == 0 or die "$!\\n"'`;
const socket = (family: number, kind: string, protocol = 0) =>
  `python3 -c 'import socket; socket.socket(${family}, socket.${kind}, ${protocol})'`;
/** Writes to the first of these files that is there, since hosts have cgroups of version 1 or 2. */
const write = (value: string, ...files: string[]) =>
  `for f in ${files.join(" ")}; do [ ! -e $f ] || { echo ${value} >$f; exit; }; done`;
const cgroup = "/sys/fs/cgroup";

/** What root in a guest tries; each must fail, and by being refused: a missing command would prove nothing. */
const ATTEMPTS: Readonly<Record<string, string>> = {
  "to run a program of its own on the host at the next crash": write("'|/tmp/x'", "/proc/sys/kernel/core_pattern"),
  "to change the host's memory policy": write("2", "/proc/sys/vm/overcommit_memory"),
  "to give the kernel orders": write("h", "/proc/sysrq-trigger", "/proc/sys/kernel/panic"),
  "to change the host's memory management": write("never", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/mm/ksm/run"),
  "to have the host run a program for a device": write("/tmp/x", "/sys/kernel/uevent_helper", "/sys/kernel/profiling"),
  "to change a device of the host": "echo change >$(find /sys/devices -name uevent | head -n 1)",
  "to route between networks": write("1", "/proc/sys/net/ipv4/ip_forward"),
  "to make the host's disk": "mknod /tmp/disk b 254 0",
  "to make the host's memory": "mknod /tmp/memory c 1 1",
  "to mount a new file system": "mount -t tmpfs none /mnt",
  "to mount a directory elsewhere": "mount --bind /etc /mnt",
  "to mount a hierarchy of cgroups": "mount -t cgroup -o memory none /mnt || mount -t cgroup2 none /mnt",
  "to have programs of a kind run by one of its own": "mount -t binfmt_misc none /mnt",
  "to see the kernel's insides": "mount -t debugfs none /mnt",
  "to lay a file system over another": "mount -t overlay overlay -o lowerdir=/etc,upperdir=/root,workdir=/root /mnt",
  "to make the kernel's settings writable": "mount -o remount,rw /proc/sys",
  "to unmount what hides the kernel's settings": "umount /proc/sys",
  "to raise its memory": write("9999999999", `${cgroup}/memory/memory.limit_in_bytes`, `${cgroup}/memory.max`),
  "to raise its processes": write("max", `${cgroup}/pids/pids.max`, `${cgroup}/pids.max`),
  "to lift its other limits": write("max", `${cgroup}/devices/devices.allow`, `${cgroup}/cpu.max`),
  "to thaw or freeze itself": write("FROZEN", `${cgroup}/freezer/freezer.state`, `${cgroup}/cgroup.freeze`),
  "to have the host run a program when a cgroup is empty": write(
    "1",
    `${cgroup}/systemd/notify_on_release`,
    `${cgroup}/cgroup.freeze`,
  ),
  "to have namespaces of its own": "unshare --mount true",
  "to be root of a namespace of its own": "unshare --user --map-root-user true",
  "to enter a namespace": "nsenter --target 1 --mount true",
  "to read packets": socket(17, "SOCK_RAW"),
  "to send packets of its own making": socket(2, "SOCK_RAW", 1),
  "to reach the hypervisor": socket(40, "SOCK_STREAM"),
  "to load a rare protocol": socket(38, "SOCK_SEQPACKET"),
  "to take its interface down": "ip link set eth0 down",
  "to add an address": "ip address add 10.9.9.9/32 dev eth0",
  "to add a route": "ip route add 203.0.113.0/24 dev eth0",
  "to set the clock": "date --set 2020-01-01",
  "to read the host's log": "dmesg",
  "to run before everything else": "chrt --fifo 50 true",
  ...Object.fromEntries(Object.entries(CALLS).map(([name, numbers]) => [`to call ${name}`, call(numbers)])),
};
const REFUSED =
  /Operation not permitted|Permission denied|permission denied|Read-only file system|must be superuser|not supported by protocol|Function not implemented/;

describe("root in a guest is refused", () => {
  let world: World;
  let vm: TestMachine;
  let other: TestMachine;
  const answers = new Map<string, { status: number; words: string }>();
  beforeAll(async () => {
    const settings = { ...DEFAULT_CONTAINER_SETTINGS, maxProcesses: MOST_PROCESSES };
    world = await openWorld((stateDir) =>
      createContainerDriver({ stateDir, cacheDir: CACHE_DIR, log: createLog(() => undefined), settings }),
    );
    [vm, other] = await Promise.all([world.createVm(), world.createVm()]);
    const script = Object.entries(ATTEMPTS).map(
      ([name, command]) => `words=$( (${command}) 2>&1 >/dev/null); printf '%s\\t%s\\t%s\\n' "${name}" $? "$(echo $words)"`,
    );
    const { stdout } = await world.ssh(vm, "bash -s", { input: script.join("\n") });
    for (const line of stdout.trim().split("\n")) {
      const [name = "", status, words = ""] = line.split("\t");
      answers.set(name, { status: Number(status), words });
    }
    return () => world.close();
  });

  it.each(Object.keys(ATTEMPTS))("%s", (name) => {
    const answer = answers.get(name);
    expect(answer?.words).toMatch(REFUSED);
    expect(answer?.status).not.toBe(0);
  });

  it("every capability but those that daemons, users and sudo need", async () => {
    const { stdout } = await world.ssh(vm, "grep CapBnd /proc/self/status");
    // AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT
    expect(stdout.trim().split(/\s+/)[1]).toBe("00000000a00405fb");
  });

  it("more processes than its limit, and they end with the machine", async () => {
    const bomb = [
      "import os, time",
      "count = 0",
      "try:",
      "  while count < 5000:",
      "    if os.fork() == 0:",
      "      os.closerange(0, 3)",
      "      time.sleep(1000)",
      "    count += 1",
      "except BlockingIOError: pass",
      "print(count, flush=True)",
    ].join("\n");
    const { stdout } = await world.ssh(vm, "python3 -", { input: bomb });
    expect(Number(stdout)).toBeGreaterThan(MOST_PROCESSES / 2);
    expect(Number(stdout)).toBeLessThan(MOST_PROCESSES);
    // A user's own limit counts the processes of all guests together, so it must not be what stops the bomb.
    expect(Number((await world.ssh(other, "bash -c 'ulimit -u'")).stdout)).toBeGreaterThan(MOST_PROCESSES);
    await world.driver.stop(vm.vmId);
    await world.driver.start(vm.vmId);
    expect((await world.ssh(vm, "echo back")).stdout).toBe("back\n");
  });

  it("every device but those of any process, and every process but its guest's", async () => {
    const { stdout } = await world.ssh(vm, "ls -A /dev; echo; ls /proc | grep -E '^[0-9]+$' | wc -l; cat /proc/[0-9]*/comm");
    const [devices = "", processes = ""] = stdout.split("\n\n");
    const harmless = ["core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"];
    const allowed = new Set([...harmless, "tty", "urandom", "zero", "console", "initctl", "log"]);
    expect(devices.split("\n").filter((name) => !allowed.has(name))).toEqual([]);
    // Where cgroups are of version 1 they tell; of version 2 nobody is asked before the device is opened.
    const list = (await world.ssh(vm, "cat /sys/fs/cgroup/devices/devices.list 2>/dev/null")).stdout;
    expect(list).not.toMatch(/^a |^b [*0-9]+:[*0-9]+ [rw]+/m);
    expect(Number(processes.split("\n")[0])).toBeLessThan(40);
    expect(processes).not.toMatch(/conmon|podman|node|kthreadd/);
  });

  it("what others are made of: what it writes over the image is its own only", async () => {
    const sum = "sha256sum /usr/bin/less /etc/passwd | cut -c1-64";
    const before = (await world.ssh(other, sum)).stdout;
    await world.ssh(vm, "echo broken >/usr/bin/less; echo 'eve::0:0::/:/bin/bash' >>/etc/passwd");
    const third = await world.createVm();
    expect((await world.ssh(vm, sum)).stdout).not.toBe(before);
    expect((await world.ssh(other, sum)).stdout).toBe(before);
    expect((await world.ssh(third, sum)).stdout).toBe(before);
    await world.driver.delete(third.vmId);
  });

  it("more memory than its own in files that are in memory", async () => {
    const fill = (path: string) => `dd if=/dev/zero of=${path} bs=1M count=3000 2>&1; rm -f ${path}`;
    for (const folder of ["/dev/shm", "/run", "/run/lock", "/dev"]) {
      expect((await world.ssh(vm, fill(`${folder}/fill`))).stdout).toContain("No space left on device");
    }
    expect((await world.ssh(vm, "echo alive")).stdout).toBe("alive\n");
  });

  it("the host's loopback, its other ports and other guests, over TCP, UDP and ICMP", async () => {
    const server = createServer((socket) => socket.end()).listen(0, "0.0.0.0");
    const loopback = createServer((socket) => socket.end()).listen(0, "127.0.0.1");
    onTestFinished(() => {
      server.close();
      loopback.close();
    });
    const abstract = createServer((socket) => socket.end()).listen({ path: `\0${world.stateDir}` });
    onTestFinished(() => {
      abstract.close();
    });
    await Promise.all(
      [server, loopback, abstract].map((each) => each.listening || new Promise((resolve) => each.once("listening", resolve))),
    );
    const portOf = (each: typeof server) => {
      const address = each.address();
      return typeof address === "object" && address !== null ? address.port : 0;
    };
    const gateway = world.driver.gatewayAddress;
    await world.ssh(other, "true");
    const tcp = (address: string, port: number) => `timeout 3 bash -c 'exec 3<>/dev/tcp/${address}/${port}'`;
    // ICMP by the kind of socket that needs no privilege (icmp(7)).
    const echo = (address: string) =>
      `python3 -c 'import socket; s = socket.socket(2, 2, 1); s.settimeout(2); s.connect(("${address}", 0)); s.send(bytes([8, 0, 0, 0, 0, 0, 0, 1])); s.recv(99)'`;
    const tries = {
      metadata: tcp("169.254.169.254", 80),
      "own sshd": tcp(vm.address, 22),
      "own echo": echo(vm.address),
      "gateway's port": tcp(gateway, portOf(server)),
      "gateway's sshd": tcp(gateway, 22),
      "host's loopback by the gateway": tcp(gateway, portOf(loopback)),
      "host's loopback by its address": tcp("127.0.0.1", portOf(loopback)),
      "gateway's echo": echo(gateway),
      "host's abstract socket": `python3 -c 'import socket; socket.socket(1).connect("\\0${world.stateDir}")'`,
      "another guest's sshd": tcp(other.address, 22),
      "another guest's echo": echo(other.address),
      "another cloud address": tcp("169.254.169.253", 80),
    };
    const script = Object.entries(tries).map(([name, command]) => `(${command} && echo "${name}") 2>/dev/null | tail -n 1 &`);
    const { stdout } = await world.ssh(vm, "bash -s", { input: `${script.join("\n")}\nwait\n` });
    // The first three show that the tries can succeed.
    expect(stdout.trim().split("\n").sort()).toEqual(["metadata", "own echo", "own sshd"]);
  });
});
