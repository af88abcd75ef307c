import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type Driver, DriverError } from "../../host/driver.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { eventually, openWorld, run, type TestMachine, type World } from "./guest-world.ts";
import { openOutside } from "./outside.ts";

/**
 * What every driver promises, whatever machines it makes. `kind`: whether a guest shares its host's kernel, which then keeps
 * its root from what a virtual machine's may do to itself.
 */
export function describeDriver(
  name: string,
  kind: "container" | "virtual machine",
  makeDriver: (stateDir: string) => Driver,
): void {
  const isContainer = kind === "container";
  describe(`driver ${name}`, () => {
    let world: World;
    /** A running machine that no test stops; each test makes its own Linux users in it. */
    let vm: TestMachine;
    beforeAll(async () => {
      world = await openWorld(makeDriver);
      vm = await world.createVm();
      return () => world.close();
    });

    const refuses = async (code: DriverError["code"], operation: Promise<unknown>) => {
      const error = await operation.then(
        () => null,
        (thrown: unknown) => thrown,
      );
      expect(error).toBeInstanceOf(DriverError);
      expect(error).toMatchObject({ code });
    };
    const refusesUnknown = (operation: Promise<unknown>) => refuses("no-such-machine", operation);

    describe("login", () => {
      it("refuses a key that metadata does not publish", async () => {
        const stranger = await world.makeKey();
        expect((await world.ssh(vm, "true", { key: stranger })).status).toBe(255);
      });

      it("refuses a published key for another Linux user", async () => {
        await world.ssh(vm, "useradd --create-home --shell /bin/bash alice && useradd --create-home --shell /bin/bash bob");
        const key = await world.makeKey();
        world.metadata.publish(vm.vmId, "alice", key);
        expect((await world.ssh(vm, "whoami", { user: "alice", key })).stdout).toBe("alice\n");
        expect((await world.ssh(vm, "whoami", { user: "bob", key })).status).toBe(255);
        expect((await world.ssh(vm, "whoami", { user: "root", key })).status).toBe(255);
      });

      it("refuses one VM's key at another VM", async () => {
        const [first, second] = [await world.createVm(), vm];
        const key = await world.makeKey();
        world.metadata.publish(first.vmId, "root", key);
        expect((await world.ssh(first, "true", { key })).status).toBe(0);
        expect((await world.ssh(second, "true", { key })).status).toBe(255);
      });

      it("refuses passwords", async () => {
        await world.ssh(vm, "echo root:secret | chpasswd");
        const refusal = await run("ssh", [
          ...["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"],
          ...["-o", "PubkeyAuthentication=no", `root@${vm.address}`, "true"],
        ]);
        expect(refusal.status).toBe(255);
        expect(refusal.stderr).toContain("Permission denied (publickey)");
      });

      it("shows the seeded host key and no other", async () => {
        await world.ssh(vm, "true");
        const shown = (await run("ssh-keyscan", [vm.address])).stdout.trim().split("\n");
        const [kind, blob] = vm.hostKey.publicLine.split(" ");
        expect(shown).toEqual([`${vm.address} ${kind} ${blob}`]);
      });
    });

    describe("guest", () => {
      it("passes the two checks for custom images", async () => {
        const grep = 'grep -R "AuthorizedKeysCommand /usr/local/bin/fetch-ssh-keys" /etc/ssh/sshd_config /etc/ssh/sshd_config.d';
        const checked = await world.ssh(vm, `${grep} && test -x /usr/local/bin/fetch-ssh-keys`);
        expect(checked).toMatchObject({ status: 0 });
      });

      it("is named by its VM id and resolves its own name", async () => {
        expect((await world.ssh(vm, "hostname; getent hosts $(hostname) >/dev/null && echo resolved")).stdout).toBe(
          `${vm.vmId}\nresolved\n`,
        );
      });

      it("has real users with sudo and su, and no warning on the way", async () => {
        const made = await world.ssh(vm, "useradd --create-home --shell /bin/bash --groups sudo developer");
        expect(made).toEqual({ status: 0, stdout: "", stderr: "" });
        const key = await world.makeKey();
        world.metadata.publish(vm.vmId, "developer", key);
        const asDeveloper = await world.ssh(vm, "sudo whoami && pwd && touch mine && stat -c %U mine", { user: "developer", key });
        expect(asDeveloper).toEqual({ status: 0, stdout: "root\n/home/developer\ndeveloper\n", stderr: "" });
        expect(await world.ssh(vm, "su - developer -c whoami")).toEqual({ status: 0, stdout: "developer\n", stderr: "" });
      });

      it("refuses sudo to a user outside group sudo", async () => {
        await world.ssh(vm, "useradd --create-home --shell /bin/bash plain");
        expect((await world.ssh(vm, "su plain -c 'sudo -n true'")).status).not.toBe(0);
      });

      it("serves sftp", async () => {
        await world.ssh(vm, "true");
        const listed = await run(
          "sftp",
          [
            "-q",
            "-b",
            "-",
            "-i",
            world.key.privatePath,
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            `root@${vm.address}`,
          ],
          "ls /etc/machine-id\n",
        );
        expect(listed).toMatchObject({ status: 0 });
        expect(listed.stdout).toContain("/etc/machine-id");
      });

      it("finds seed files with their content, mode and owner at first boot", async () => {
        const seeded = await world.createVm([{ path: "/etc/seeded", mode: 0o640, content: "línea\n" }]);
        expect((await world.ssh(seeded, "cat /etc/seeded; stat -c '%a %U' /etc/seeded")).stdout).toBe("línea\n640 root\n");
      });

      it("keeps sshd running when somebody kills it", async () => {
        await world.ssh(vm, "kill $(cat /run/sshd.pid)");
        expect((await world.ssh(vm, "echo back")).stdout).toBe("back\n");
      });
    });

    describe("life", () => {
      it("gives each machine an address of its own and knows whose it is", async () => {
        const [first, second] = await Promise.all([world.createVm(), world.createVm()]);
        expect(first.address).not.toBe(second.address);
        expect(world.driver.vmAtAddress(first.address)).toBe(first.vmId);
        expect(world.driver.vmAtAddress(second.address)).toBe(second.vmId);
        expect(world.driver.vmAtAddress("192.0.2.77")).toBeNull();
      });

      it("keeps memory over pause and start", async () => {
        const vm = await world.createVm();
        const pid = (await world.ssh(vm, "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!")).stdout.trim();
        expect(await world.driver.pause(vm.vmId)).toMatchObject({ state: "paused", address: vm.address });
        expect(await world.driver.inspect(vm.vmId)).toMatchObject({ state: "paused" });
        expect(await world.driver.start(vm.vmId)).toMatchObject({ state: "running", address: vm.address });
        expect((await world.ssh(vm, `kill -0 ${pid} && echo alive`)).stdout).toBe("alive\n");
      });

      it("keeps the disk and the address over stop and start, and nothing else", async () => {
        const vm = await world.createVm();
        await world.ssh(vm, "echo kept >/root/file; setsid sleep 1000 >/dev/null 2>&1 </dev/null &");
        expect(await world.driver.stop(vm.vmId)).toMatchObject({ state: "stopped", address: vm.address });
        expect(await world.driver.inspect(vm.vmId)).toMatchObject({ state: "stopped" });
        expect(await world.driver.start(vm.vmId)).toMatchObject({ state: "running", address: vm.address });
        const after = await world.ssh(vm, `cat /root/file; pgrep --exact sleep >/dev/null || echo gone`);
        expect(after.stdout).toBe("kept\ngone\n");
      });

      it("stops a paused machine", async () => {
        const vm = await world.createVm();
        await world.driver.pause(vm.vmId);
        expect(await world.driver.stop(vm.vmId)).toMatchObject({ state: "stopped" });
      });

      it("stops a machine whose processes ignore SIGTERM", async () => {
        const vm = await world.createVm();
        await world.ssh(vm, "setsid bash -c 'trap \"\" TERM; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null &");
        expect(await world.driver.stop(vm.vmId)).toMatchObject({ state: "stopped" });
      });

      it("does each of start, pause and stop twice without harm", async () => {
        const vm = await world.createVm();
        expect(await world.driver.start(vm.vmId)).toMatchObject({ state: "running" });
        expect(await world.driver.pause(vm.vmId)).toMatchObject({ state: "paused" });
        expect(await world.driver.pause(vm.vmId)).toMatchObject({ state: "paused" });
        expect(await world.driver.stop(vm.vmId)).toMatchObject({ state: "stopped" });
        expect(await world.driver.stop(vm.vmId)).toMatchObject({ state: "stopped" });
      });

      it("answers a repeated create with the machine that is there", async () => {
        const vm = await world.createVm();
        await world.ssh(vm, "echo kept >/root/file");
        expect(await world.driver.create({ vmId: vm.vmId, files: [] })).toMatchObject({ address: vm.address, state: "running" });
        expect((await world.ssh(vm, "cat /root/file")).stdout).toBe("kept\n");
      });

      it("forgets a deleted machine in whatever state it was, and deleting it again is no error", async () => {
        const [running, paused, stopped] = [await world.createVm(), await world.createVm(), await world.createVm()];
        await world.driver.pause(paused.vmId);
        await world.driver.stop(stopped.vmId);
        for (const vm of [running, paused, stopped]) {
          await world.driver.delete(vm.vmId);
          await world.driver.delete(vm.vmId);
          expect(await world.driver.inspect(vm.vmId)).toBeNull();
          expect(world.driver.vmAtAddress(vm.address)).toBeNull();
        }
        const listed = (await world.driver.list()).map((machine) => machine.vmId);
        expect(listed).not.toEqual(expect.arrayContaining([running.vmId]));
      });

      it("refuses to start, pause or stop a machine that it does not have", async () => {
        const vmId = newVmId(platformRandomBytes);
        await refusesUnknown(world.driver.start(vmId));
        await refusesUnknown(world.driver.pause(vmId));
        await refusesUnknown(world.driver.stop(vmId));
        expect(await world.driver.inspect(vmId)).toBeNull();
      });

      it("creates ten machines at once, each reachable", async () => {
        const vms = await Promise.all(Array.from({ length: 10 }, () => world.createVm()));
        expect(new Set(vms.map((vm) => vm.address)).size).toBe(10);
        const names = await Promise.all(vms.map((vm) => world.ssh(vm, "hostname")));
        expect(names.map((name) => name.stdout.trim())).toEqual(vms.map((vm) => vm.vmId));
        await Promise.all(vms.map((vm) => world.driver.delete(vm.vmId)));
      });
    });

    describe("service manager", () => {
      it("is systemd, with nothing failed, and sshd is one of its services", async () => {
        const shown = await world.ssh(
          vm,
          "cat /proc/1/comm; systemctl is-system-running; systemctl is-active ssh; ls /run/nologin",
        );
        expect(shown.stdout).toBe("systemd\nrunning\nactive\n");
      });

      it("keeps services apart in cgroups", async () => {
        const cgroup = await world.ssh(vm, "cat /proc/$(cat /run/sshd.pid)/cgroup");
        expect(cgroup.stdout).toContain("/system.slice/ssh.service");
      });

      it.runIf(isContainer)("lets the guest's root raise no limit of its own", async () => {
        const limits = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max";
        const raised = await world.ssh(vm, `for file in ${limits}; do [ ! -e $file ] || echo 99999999999 >$file; done 2>&1`);
        expect(raised.stdout).toMatch(/Read-only file system|Permission denied/);
      });

      it("starts again at boot what was enabled", async () => {
        const own = await world.createVm();
        const unit = "[Service]\\nExecStart=/bin/sleep 1000\\n[Install]\\nWantedBy=multi-user.target\\n";
        await world.ssh(own, `printf '${unit}' >/etc/systemd/system/mine.service && systemctl enable --now mine`);
        await world.driver.stop(own.vmId);
        await world.driver.start(own.vmId);
        await eventually("the service runs", async () => (await world.ssh(own, "systemctl is-active mine")).stdout === "active\n");
      });
    });

    describe("sizes", () => {
      /** Its memory in bytes and its processor time in µs of 100,000; a virtual machine's kernel keeps about 8 %. */
      const limits = async (machine: TestMachine) => {
        if (!isContainer) {
          const shown = (await world.ssh(machine, "nproc; grep MemTotal /proc/meminfo")).stdout;
          const [cpus, kib] = (shown.match(/\d+/g) ?? []).map(Number);
          const mib = Math.round((kib ?? 0) / 1024 / 0.92 / 128) * 128;
          return [String(mib * 1024 ** 2), String((cpus ?? 0) * 100_000)];
        }
        const files = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us";
        const unified = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max";
        return (await world.ssh(machine, `cat ${files} 2>/dev/null || cat ${unified}`)).stdout.split(/\s+/);
      };

      it("hold from the start, change at once or at the next start, and stay over a stop", async () => {
        const own = await world.createVm([], { resources: { cpu: 1, memory: 256 } });
        expect((await limits(own)).slice(0, 2)).toEqual([String(256 * 1024 ** 2), "100000"]);
        await world.driver.resize(own.vmId, { memory: 512 });
        const atOnce = world.driver.resizesAtNextStart ? 256 : 512;
        expect((await limits(own)).slice(0, 2)).toEqual([String(atOnce * 1024 ** 2), "100000"]);
        await world.driver.stop(own.vmId);
        await world.driver.resize(own.vmId, { cpu: 2 });
        await world.driver.start(own.vmId);
        expect((await limits(own)).slice(0, 2)).toEqual([String(512 * 1024 ** 2), "200000"]);
      });

      it("are what a greedy process dies of, and nothing else of the guest", async () => {
        const own = await world.createVm([], { resources: { memory: isContainer ? 128 : 256 } });
        const greedy = await world.ssh(own, "python3 -c 'x = [bytearray(2**20) for _ in range(1024)]'; echo $?");
        expect(greedy.stdout).toBe("137\n");
        expect((await world.ssh(own, "echo alive")).stdout).toBe("alive\n");
      });

      it.each([{ storage: 1024 }, { cpu: 1_000 }, { memory: 16_777_216 }])("%j are refused by name", (resources) => {
        expect(world.driver.refuses(resources)).toContain(Object.keys(resources)[0]);
      });

      it("of no machine cannot be changed", async () => {
        await refusesUnknown(world.driver.resize(newVmId(platformRandomBytes), { cpu: 1 }));
      });
    });

    describe("snapshots", () => {
      const newSnapshotId = () => newVmId(platformRandomBytes);
      const identity = "cat /etc/machine-id /etc/hostname; hostname; getent hosts $(hostname) >/dev/null && echo resolved";

      it("hold the disk as it was, and each clone has an identity of its own", async () => {
        const source = await world.createVm();
        await world.ssh(source, "echo before >/root/file; useradd --create-home alice; cp /etc/machine-id /root/machine-id");
        const snapshotId = newSnapshotId();
        await world.driver.snapshot(source.vmId, snapshotId);
        expect(await world.driver.inspect(source.vmId)).toMatchObject({ state: "running" });
        await world.ssh(source, "echo after >/root/file");
        await world.driver.delete(source.vmId);
        const [first, second] = [await world.createVm([], { snapshotId }), await world.createVm([], { snapshotId })];
        for (const clone of [first, second]) {
          const shown = (await world.ssh(clone, `cat /root/file; id -un alice; ${identity}`)).stdout;
          const [content, alice, machineId, ...names] = shown.trim().split("\n");
          expect([content, alice, ...names]).toEqual(["before", "alice", clone.vmId, clone.vmId, "resolved"]);
          expect((await world.ssh(clone, "cat /root/machine-id")).stdout).not.toBe(`${machineId}\n`);
          expect((await run("ssh-keyscan", [clone.address])).stdout).toContain(clone.hostKey.publicLine.split(" ")[1]);
        }
        await world.driver.deleteSnapshot(snapshotId);
        expect((await world.ssh(first, "cat /root/file")).stdout).toBe("before\n");
        await refuses("no-such-snapshot", world.createVm([], { snapshotId }));
      });

      it("of a paused and of a stopped machine leave it so", async () => {
        const source = await world.createVm();
        await world.driver.pause(source.vmId);
        for (const state of ["paused", "stopped"]) {
          const snapshotId = newSnapshotId();
          await world.driver.snapshot(source.vmId, snapshotId);
          expect(await world.driver.inspect(source.vmId)).toMatchObject({ state });
          await world.driver.deleteSnapshot(snapshotId);
          await world.driver.stop(source.vmId);
        }
      });

      it("taken or deleted twice change nothing, and of no machine there is none", async () => {
        const snapshotId = newSnapshotId();
        for (let time = 0; time < 2; time += 1) await world.driver.snapshot(vm.vmId, snapshotId);
        for (let time = 0; time < 2; time += 1) await world.driver.deleteSnapshot(snapshotId);
        await refusesUnknown(world.driver.snapshot(newVmId(platformRandomBytes), newSnapshotId()));
      });
    });

    describe("network", () => {
      const reach = (address: string, port: number) => `timeout 3 bash -c 'exec 3<>/dev/tcp/${address}/${port}'`;

      it("keeps guests from each other", async () => {
        const [first, second] = [vm, await world.createVm()];
        await world.ssh(second, "true");
        expect((await world.ssh(first, reach(second.address, 22))).status).not.toBe(0);
      });

      it("lets a guest reach metadata at 169.254.169.254 and nothing else in that range", async () => {
        expect((await world.ssh(vm, reach("169.254.169.254", 80))).status).toBe(0);
        expect((await world.ssh(vm, reach("169.254.169.254", 443))).status).not.toBe(0);
        expect((await world.ssh(vm, reach("169.254.169.253", 80))).status).not.toBe(0);
      });

      it("lets an offline guest reach metadata and nothing else, after a restart too", async () => {
        const outside = await openOutside();
        onTestFinished(() => outside.close());
        const tries = `${reach("169.254.169.254", 80)} && echo metadata; ${reach(outside.address, outside.port)} && echo outside`;
        expect((await world.ssh(vm, tries)).stdout).toBe("metadata\noutside\n");
        const offline = await world.createVm([], { internet: false });
        for (let boots = 0; boots < 2; boots += 1) {
          expect((await world.ssh(offline, tries)).stdout).toBe("metadata\n");
          expect((await world.ssh(offline, "getent hosts debian.org")).stdout).toBe("");
          await world.driver.stop(offline.vmId);
          await world.driver.start(offline.vmId);
        }
      });

      it("keeps guests from the host's ports, on the gateway and on its other addresses", async () => {
        const { createServer } = await import("node:net");
        const server = createServer((socket) => socket.end());
        await new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
        const address = server.address();
        const port = typeof address === "object" && address !== null ? address.port : 0;
        const own = (await run("hostname", ["-I"])).stdout.split(" ").filter((word) => /^\d+\.\d+\.\d+\.\d+$/.test(word));
        expect(own.length).toBeGreaterThan(0);
        for (const hostAddress of own) expect((await world.ssh(vm, reach(hostAddress, port))).status).not.toBe(0);
        await new Promise((resolve) => server.close(resolve));
      });

      it("gives a guest resolvers of its host, none of them on loopback", async () => {
        const servers = (await world.ssh(vm, "cat /etc/resolv.conf")).stdout;
        expect(servers).toMatch(/^nameserver \d/m);
        expect(servers).not.toContain("127.0.0.");
      });

      it.runIf(!isContainer)("drops what a guest says from an address that is not its own", async () => {
        const own = await world.createVm();
        const ask = `${reach("169.254.169.254", 80)} && echo reached`;
        expect((await world.ssh(own, ask)).stdout).toBe("reached\n");
        const [foreign, elsewhere] = [vm.address, "203.0.113.9"];
        for (const address of [foreign, elsewhere]) {
          const add = `ip address add ${address}/32 dev eth0`;
          const asked = `curl --silent --max-time 3 --interface ${address} --output /dev/null --write-out '%{http_code}' http://169.254.169.254/`;
          expect((await world.ssh(own, `${add}; ${asked}`)).stdout).toBe("000");
        }
      });

      it.runIf(isContainer)("does not let a guest's root change its address or read raw packets", async () => {
        expect((await world.ssh(vm, "ip address add 10.9.9.9/32 dev eth0")).status).not.toBe(0);
        expect((await world.ssh(vm, "ip link set eth0 address 02:00:00:00:00:99")).status).not.toBe(0);
        const raw = "python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'";
        expect((await world.ssh(vm, raw)).stderr).toContain("PermissionError");
      });
    });
  });
}
