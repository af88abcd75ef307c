import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startSshd } from "../test/forwarder/support/sshd.ts";
import { run } from "../test/system/command.ts";
import type { SystemAccess } from "../test/system/running-system.ts";
import { type BenchVm, withVm } from "./account.ts";

/** Size of the file that throughput is measured with. */
export const MEBIBYTES = 192;

/** A second sshd in the guest, the same program with the same settings, for logins that go around the forwarder. */
const DIRECT_PORT = 2200;

/** Three ways into one guest, as arguments of `ssh` or `sftp` up to the destination. */
export interface Ways {
  readonly vm: BenchVm;
  /** Through the forwarder. */
  readonly through: readonly string[];
  /** To the guest's second sshd, from the host. */
  readonly direct: readonly string[];
  readonly directAddress: { readonly host: string; readonly port: number };
  /** To the same by OpenSSH's `ProxyJump` over an sshd on the host. */
  readonly jump: readonly string[];
  /** The process of that sshd, which forks for every connection. */
  readonly jumpPid: number;
}

/** Of every `ssh` and `sftp` that is measured. */
export const OPTIONS = ["-q", "-F", "none", "-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null"];

/** Runs `use` with a guest of its own that is open by all three ways. */
export function withWays<T>(system: SystemAccess, use: (ways: Ways) => Promise<T>): Promise<T> {
  return withVm(system, async (vm) => {
    const folder = mkdtempSync(join(tmpdir(), "postern-bench-ways-"));
    const jumpHost = await startSshd(folder, []);
    try {
      const key = join(folder, "key");
      await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
      const publicKey = readFileSync(`${key}.pub`, "utf8").trim();
      jumpHost.authorise(publicKey);
      const directAddress = { host: await openDirectLogin(vm, publicKey), port: DIRECT_PORT };
      const direct = [...OPTIONS, "-i", key, "-o", `Port=${directAddress.port}`, `root@${directAddress.host}`];
      const jumper = ["ssh", ...OPTIONS, "-i", key, "-p", String(jumpHost.port), "-W", "%h:%p", "root@127.0.0.1"];
      return await use({
        vm,
        through: wayThrough(system, vm),
        direct,
        directAddress,
        // What -J does, with options of our own for the first hop.
        jump: ["-o", `ProxyCommand=${jumper.join(" ")}`, ...direct],
        jumpPid: jumpHost.pid,
      });
    } finally {
      await jumpHost.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

/** Through the forwarder into a VM. */
export function wayThrough(system: SystemAccess, { vmId, token }: BenchVm): readonly string[] {
  return [...OPTIONS, "-o", `Port=${system.sshPort}`, `${vmId},${token}@${system.sshHost}`];
}

/** Makes the file, starts the second sshd, and answers the guest's address. */
async function openDirectLogin(vm: BenchVm, publicKey: string): Promise<string> {
  const script = `set -e
head -c ${MEBIBYTES}M /dev/urandom >/root/big
install -d -m 700 /root/.ssh
echo '${publicKey}' >/root/.ssh/bench_keys
/usr/sbin/sshd -p ${DIRECT_PORT} -o AuthorizedKeysFile=/root/.ssh/bench_keys -o AuthorizedKeysCommand=none -o PidFile=none
hostname -I`;
  const [address = ""] = (await runInGuest(vm, script)).trim().split(/\s+/);
  if (address === "") throw new Error("the guest has no address");
  return address;
}

/** Runs a script as root in the guest and answers its output. Throws with its errors when it fails. */
export async function runInGuest({ vmId, owner }: BenchVm, script: string): Promise<string> {
  const answer = await owner.request<{ stdout: string; stderr: string; statusCode: number }>("POST", `/v1/vms/${vmId}/exec-await`, {
    command: script,
    terminal: null,
    timeoutMs: 60_000,
  });
  if (answer.statusCode !== 0) throw new Error(`a script in the guest ended with ${answer.statusCode}: ${answer.stderr}`);
  return answer.stdout;
}

/** Runs `ssh` once; `sends` bytes of nothing are its input, `expects` bytes its output. Answers its seconds. */
export function timeSsh(way: readonly string[], command: string, sends = 0, expects = 0): Promise<number> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const ssh = spawn("ssh", [...way, command], { stdio: ["pipe", "pipe", "inherit"] });
    const chunk = Buffer.alloc(65_536);
    let left = sends;
    let received = 0;
    const feed = () => {
      for (; left > 0; left -= chunk.length) if (!ssh.stdin.write(chunk)) break;
      if (left > 0) left -= chunk.length;
      else ssh.stdin.end();
    };
    ssh.stdin.on("drain", feed).on("error", () => undefined);
    feed();
    ssh.stdout.on("data", (data: Buffer) => {
      received += data.length;
    });
    ssh.once("error", reject);
    ssh.once("close", (code) => {
      if (code === 0 && received === expects) resolve((performance.now() - started) / 1_000);
      else reject(new Error(`ssh ended with ${code} after ${received} bytes`));
    });
  });
}
