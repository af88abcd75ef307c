import { run } from "../test/system/command.ts";
import { familyOf } from "../test/system/processes.ts";
import { inTurns } from "./cpu.ts";
import type { Benchmark } from "./figure.ts";
import { type ForwarderAlone, openSinkVm, type SinkVm, withForwarder } from "./forwarder-alone.ts";
import { login, pause, sealMany } from "./ssh-session.ts";

/** The kernel deals connections to workers by a hash: with two of them both would often meet the same worker. */
const SESSIONS = 8;
const ROUNDS = 3;
/** More than one worker carries for one session in a round. */
const PACKETS_EACH = 250_000;
/** A keystroke on channel 0 (RFC 4254 section 5.2). */
const KEYSTROKE = Buffer.from([94, 0, 0, 0, 0, 0, 0, 0, 1, 0x78]);
const BEGIN_MS = 200;
const COUNT_MS = 800;

/**
 * Small packets a second of many sessions with two workers against one, each worker on a core of its own. What clients and
 * VMs do is next to nothing, so that the forwarder is what is measured: the clients have encrypted beforehand, the VMs only
 * count bytes.
 */
export const sshWorkersScaling: Benchmark = {
  id: "ssh.workers_scaling",
  against: "one worker",
  measure: () =>
    withWorkers(1, (one) =>
      withWorkers(2, (two) =>
        inTurns(
          () => packetsPerSecond(two),
          () => packetsPerSecond(one),
          "packets/s",
          ROUNDS,
        ),
      ),
    ),
};

interface Crowd extends ForwarderAlone {
  readonly vm: SinkVm;
}

async function withWorkers<T>(count: number, use: (crowd: Crowd) => Promise<T>): Promise<T> {
  const vm = await openSinkVm();
  return withForwarder(
    async () => vm,
    { POSTERN_FORWARDER_WORKERS: String(count) },
    async (forwarder) => {
      const [first, ...children] = familyOf(forwarder.pid);
      const workers = count === 1 ? [first] : children;
      if (workers.length !== count) throw new Error(`${workers.length} workers in place of ${count}`);
      for (const [core, pid] of workers.entries()) await run("taskset", ["-acp", String(core), String(pid)]);
      return await use({ ...forwarder, vm });
    },
  );
}

async function packetsPerSecond({ port, vmId, token, vm }: Crowd): Promise<number> {
  const sessions = await Promise.all(Array.from({ length: SESSIONS }, () => login("127.0.0.1", port, vmId, token)));
  try {
    const floods = sessions.map((session) => sealMany(session, KEYSTROKE, PACKETS_EACH));
    let drained = false;
    for (const [index, { socket }] of sessions.entries()) {
      socket.write(floods[index] ?? "", () => {
        drained = true;
      });
    }
    await pause(BEGIN_MS);
    const [bytes, started] = [vm.received(), performance.now()];
    await pause(COUNT_MS);
    const [more, ended] = [vm.received(), performance.now()];
    if (drained) throw new Error("a client had nothing left to send");
    return ((more - bytes) / packetBytes(floods)) * (1_000 / (ended - started));
  } finally {
    for (const { socket } of sessions) socket.destroy();
  }
}

function packetBytes([flood]: readonly Buffer[]): number {
  return (flood?.length ?? Number.NaN) / PACKETS_EACH;
}
