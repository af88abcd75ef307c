import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../test/system/command.ts";
import { SshClient } from "../test/system/ssh-client.ts";
import { type BenchVm, withVm } from "./account.ts";
import { type Benchmark, median } from "./figure.ts";

const ROUNDS = 5;
const MEBIBYTES = 192;
/** A second sshd in the guest, the same program with the same settings, for the direct login. */
const DIRECT_PORT = 2200;

/**
 * Throughput of `ssh … cat file` through the forwarder against that of the same command to a second sshd in the same
 * guest, logged in to directly from the host. Rounds alternate; connecting is part of both.
 */
export const sshDownVsDirect: Benchmark = {
  id: "ssh.down_vs_direct",
  against: "direct sshd in the same guest",
  measure: (system) =>
    withVm(system, async (vm) => {
      const through = new SshClient(system);
      const key = join(through.folder, "key");
      await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
      const address = await openDirectLogin(vm, readFileSync(`${key}.pub`, "utf8").trim());
      const direct = new SshClient({ sshHost: address, sshPort: DIRECT_PORT });
      try {
        const ways = {
          through: [...through.options, `${vm.vmId},${vm.token}@${system.sshHost}`],
          direct: [...direct.options, "-i", key, `root@${address}`],
        };
        await download(ways.direct);
        await download(ways.through);
        const rounds: { through: number; direct: number }[] = [];
        for (let round = 0; round < ROUNDS; round += 1) {
          rounds.push({ direct: await download(ways.direct), through: await download(ways.through) });
        }
        return {
          value: median(rounds.map((round) => round.through)),
          baseline: median(rounds.map((round) => round.direct)),
          unit: "MiB/s",
        };
      } finally {
        through.close();
        direct.close();
      }
    }),
};

/** Makes the file, starts the second sshd, and answers the guest's address. */
async function openDirectLogin({ vmId, owner }: BenchVm, publicKey: string): Promise<string> {
  const script = `set -e
head -c ${MEBIBYTES}M /dev/urandom >/root/big
install -d -m 700 /root/.ssh
echo '${publicKey}' >/root/.ssh/bench_keys
/usr/sbin/sshd -p ${DIRECT_PORT} -o AuthorizedKeysFile=/root/.ssh/bench_keys -o AuthorizedKeysCommand=none -o PidFile=none
hostname -I`;
  const answer = await owner.request<{ stdout: string; stderr: string; statusCode: number }>("POST", `/v1/vms/${vmId}/exec-await`, {
    command: script,
    terminal: null,
    timeoutMs: 60_000,
  });
  const [address = ""] = answer.stdout.trim().split(/\s+/);
  if (answer.statusCode !== 0 || address === "") throw new Error(`no direct login to the guest: ${answer.stderr}`);
  return address;
}

/** Downloads the file once and answers the throughput in MiB/s. */
function download(words: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const ssh = spawn("ssh", ["-q", "-o", "BatchMode=yes", ...words, "cat /root/big"], { stdio: ["ignore", "pipe", "inherit"] });
    let bytes = 0;
    ssh.stdout.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    ssh.once("error", reject);
    ssh.once("close", (code) => {
      if (code !== 0 || bytes !== MEBIBYTES * 1024 * 1024) reject(new Error(`ssh ended with ${code} after ${bytes} bytes`));
      else resolve(MEBIBYTES / ((performance.now() - started) / 1_000));
    });
  });
}
