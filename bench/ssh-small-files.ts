import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../test/system/command.ts";
import { inTurns } from "./cpu.ts";
import { type Address, openDistance } from "./distance.ts";
import type { Benchmark } from "./figure.ts";
import { behindRelays } from "./relays.ts";
import { runInGuest, withWays } from "./ssh-ways.ts";

const FILES = 10_000;
const FILE_BYTES = 1_024;
/** Of many seconds each. */
const ROUNDS = 2;
const TIMEOUT_MS = 240_000;
/** A client in the forwarder's city or so. Each file costs several round trips, so of these fewer do. */
const ONE_WAY_MS = 2;
const FAR_FILES = 500;

const MAKE_FILES = `set -e
for count in ${FILES} ${FAR_FILES}
do
  mkdir /root/small-$count
  cd /root/small-$count
  head -c $(( count * ${FILE_BYTES} )) /dev/urandom | split -b ${FILE_BYTES} -d -a 5 -
done`;

/** As many as the ways through the forwarder have: itself and the VM's host. */
const HOPS = 2;

type Way = "through" | "direct" | "jump" | "relays";

/**
 * Small files a second that `sftp` fetches, one after the other with four round trips each, one way against another. On one machine a
 * round trip takes no time but what the processes on the way take, and the forwarder and the host are two more that each
 * message has to wake, there and back. `relays` has two that do nothing else: what is lost between it and `direct` is lost to any
 * design with a hop at the region's edge and one at the VM's host, and what is lost between it and `through` is what ours do with the bytes.
 */
function smallFiles(id: string, against: string, ours: Way, theirs: Way): Benchmark {
  return {
    id,
    against,
    measure: (system) =>
      withWays(system, async ({ vm, through, direct, directAddress, jump }) => {
        await runInGuest(vm, MAKE_FILES);
        return behindRelays(directAddress, HOPS, (address) => {
          const ways = { through, direct, jump, relays: [...leadTo(address), ...direct] };
          return inTurns(
            () => fetchAll(ways[ours], FILES),
            () => fetchAll(ways[theirs], FILES),
            "files/s",
            ROUNDS,
          );
        });
      }),
  };
}

const DIRECT = "direct sshd in the same guest";
const RELAYS = "the same sshd behind two bare TCP relays";

export const sftpSmall: readonly Benchmark[] = [
  smallFiles("ssh.sftp_small_vs_direct", DIRECT, "through", "direct"),
  smallFiles("ssh.sftp_small_vs_jump", "ProxyJump to the same guest", "through", "jump"),
  smallFiles("ssh.sftp_small_vs_relays", RELAYS, "through", "relays"),
  smallFiles("ssh.sftp_small_relays_vs_direct", DIRECT, "relays", "direct"),
];

/** The same with a client to which both are equally far. */
export const sftpSmallFar: Benchmark = {
  id: "ssh.sftp_small_far_vs_direct",
  against: `direct sshd in the same guest, either ${2 * ONE_WAY_MS} ms away`,
  measure: (system) =>
    withWays(system, async ({ vm, through, direct, directAddress }) => {
      await runInGuest(vm, MAKE_FILES);
      return fromAfar({ host: system.sshHost, port: system.sshPort }, (toForwarder) =>
        fromAfar(directAddress, (toGuest) =>
          inTurns(
            () => fetchAll([...toForwarder, ...through], FAR_FILES),
            () => fetchAll([...toGuest, ...direct], FAR_FILES),
            "files/s",
          ),
        ),
      );
    }),
};

/** Gives `use` options of `sftp` that lead to an address from some way off. */
async function fromAfar<T>(address: Address, use: (options: readonly string[]) => Promise<T>): Promise<T> {
  const distance = await openDistance(address, ONE_WAY_MS);
  try {
    return await use(leadTo({ host: "127.0.0.1", port: distance.port }));
  } finally {
    distance.close();
  }
}

/** Options of `sftp` that count before those of a way behind them. */
function leadTo({ host, port }: Address): readonly string[] {
  return [`-oHostname=${host}`, `-oPort=${port}`];
}

async function fetchAll(way: readonly string[], files: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "postern-bench-sftp-"));
  try {
    const started = performance.now();
    const sftp = await run("sftp", ["-b", "-", ...way], {
      input: `get -r /root/small-${files} ${folder}\n`,
      timeoutMs: TIMEOUT_MS,
    });
    const seconds = (performance.now() - started) / 1_000;
    const fetched = readdirSync(join(folder, `small-${files}`)).length;
    if (sftp.code !== 0 || fetched !== files) throw new Error(`sftp ended with ${sftp.code} and ${fetched} files: ${sftp.stderr}`);
    return files / seconds;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
