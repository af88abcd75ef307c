import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MachineSpec } from "../../../host/driver.ts";

/** How a guest's sshd learns which keys to admit, where it is not the way of the machines that drivers make. */
export interface KeySource {
  /** Content of its `AuthorizedKeysCommand`. */
  readonly command: string;
  readonly authorizedKeysFile: string;
}

/**
 * A guest without a virtual machine: OpenSSH's own sshd on a loopback address, with its own processes, `/etc`, `/home`,
 * `/root` and `/run`, so that accounts can be made in it. Its `AuthorizedKeysCommand` asks the metadata server under test
 * from the guest's own address. Needs root.
 */
export class LocalGuest {
  readonly address: string;
  readonly #dir = mkdtempSync(join(tmpdir(), "postern-guest-"));
  readonly #port: number;
  readonly #metadata: () => { address: string; port: number };
  readonly #keys: KeySource | null;
  #process: ChildProcess | null = null;

  constructor(
    spec: Pick<MachineSpec, "files">,
    address: string,
    port: number,
    metadata: () => { address: string; port: number },
    keys: KeySource | null = null,
  ) {
    this.address = address;
    this.#keys = keys;
    this.#port = port;
    this.#metadata = metadata;
    this.#writeTools(spec);
  }

  start(): void {
    if (this.#process !== null) return;
    this.#writeKeyCommand();
    const child = spawn(
      "unshare",
      ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", join(this.#dir, "boot")],
      {
        stdio: ["ignore", "ignore", process.env.POSTERN_TEST_SSHD_LOG ? "inherit" : "ignore"],
      },
    );
    this.#process = child;
  }

  /** Holds every process of the guest still, as a container's freezer does, or lets them go on. Its kernel goes on answering. */
  freeze(still: boolean): void {
    const own = this.#process === null ? null : namespaceOf(String(this.#process.pid), "pid_for_children");
    // `unshare` is the first thing that a guest's process does: before it, its namespace is ours, with all that runs here.
    for (const pid of own === null || own === namespaceOf("self", "pid")
      ? []
      : readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      if (namespaceOf(pid, "pid") === own) process.kill(Number(pid), still ? "SIGSTOP" : "SIGCONT");
    }
  }

  async stop(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async delete(): Promise<void> {
    await this.stop();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** Anew at each start, since a restarted agent serves metadata elsewhere. */
  #writeKeyCommand(): void {
    const { address, port } = this.#metadata();
    const path = join(this.#dir, "fetch-ssh-keys");
    const url = `http://${address}:${port}/latest/ssh-keys?user=$1`;
    const ask = `#!/bin/bash\nexec curl --silent --fail --noproxy '*' --interface ${this.address} "${url}"\n`;
    writeFileSync(path, this.#keys?.command ?? ask);
    chmodSync(path, 0o755);
  }

  #writeTools(spec: Pick<MachineSpec, "files">): void {
    const seed = join(this.#dir, "seed");
    for (const file of spec.files) {
      const path = join(seed, file.path);
      mkdirSync(join(path, ".."), { recursive: true });
      writeFileSync(path, file.content, { mode: file.mode });
    }
    for (const folder of ["etc", "home", "root"]) mkdirSync(join(this.#dir, folder));
    const config = [
      `ListenAddress ${this.address}:${this.#port}`,
      "HostKey /etc/ssh/ssh_host_ed25519_key",
      "AuthorizedKeysCommand /etc/ssh/fetch-ssh-keys %u",
      "AuthorizedKeysCommandUser nobody",
      `AuthorizedKeysFile ${this.#keys?.authorizedKeysFile ?? "none"}`,
      "PasswordAuthentication no",
      "KbdInteractiveAuthentication no",
      "UsePAM yes",
      "UseDNS no",
      "PidFile none",
      "MaxStartups 1000:30:2000",
      "AcceptEnv *",
      "Subsystem sftp internal-sftp",
      "",
    ].join("\n");
    // The guest's disk outlives a stop: `/etc`, `/home` and `/root` are folders of ours, `/etc` filled at the first boot.
    const boot = `set -e
dir=${this.#dir}
mount --make-rprivate /
if [ ! -e $dir/made ]; then
  cp -a /etc/. $dir/etc/
  rm -f $dir/etc/ssh/ssh_host_* $dir/etc/passwd.lock $dir/etc/shadow.lock $dir/etc/group.lock $dir/etc/gshadow.lock $dir/etc/.pwd.lock
  cp -a $dir/seed/etc/. $dir/etc/
  cp $dir/sshd_config $dir/etc/ssh/sshd_config
  chown -R root:root $dir/etc/ssh
  touch $dir/made
fi
cp $dir/fetch-ssh-keys $dir/etc/ssh/fetch-ssh-keys
mount --bind $dir/etc /etc
mount --bind $dir/home /home
mount --bind $dir/root /root
mount -t tmpfs run /run
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e
`;
    writeFileSync(join(this.#dir, "sshd_config"), config);
    writeFileSync(join(this.#dir, "boot"), boot);
    chmodSync(this.#dir, 0o755);
  }
}

function namespaceOf(pid: string, kind: string): string | null {
  try {
    return readlinkSync(`/proc/${pid}/ns/${kind}`);
  } catch {
    // It has just ended.
    return null;
  }
}
