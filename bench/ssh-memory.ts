import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import ssh2 from "ssh2";
import { attachLeg, type PacketLeg } from "../forwarder/packet-leg.ts";
import { string, uint32 } from "../forwarder/ssh-wire.ts";
import { findDescendant } from "../test/system/processes.ts";
import type { SystemAccess } from "../test/system/running-system.ts";
import { type BenchVm, withVm } from "./account.ts";
import type { Benchmark } from "./figure.ts";

/** Within what one guest's sshd and host take by default. */
const IDLE_SESSIONS = 200;
/** How long a hostile client leaves its window open and reads nothing, in milliseconds. */
const HOSTILE_MS = 8_000;
const WARM_UP_BYTES = 64 * 1024 * 1024;

/** Resident memory that the forwarder needs for one more idle session. */
export const sshIdle: Benchmark = {
  id: "ssh.idle_kib",
  against: "the limit of 64 KiB a session",
  measure: (system) =>
    withVm(system, async (vm) => {
      const pid = findDescendant(system.pid, "serve-forwarder");
      const warmUp = await Promise.all(Array.from({ length: 20 }, () => login(system, vm)));
      const before = await settledKib(pid);
      const sessions: Socket[] = [];
      while (sessions.length < IDLE_SESSIONS) {
        sessions.push(...(await Promise.all(Array.from({ length: 10 }, async () => (await login(system, vm)).socket))));
      }
      const after = await settledKib(pid);
      for (const socket of [...sessions, ...warmUp.map((session) => session.socket)]) socket.destroy();
      return { value: (after - before) / IDLE_SESSIONS, baseline: 64, unit: "KiB" };
    }),
};

/** Most resident memory that a client with a window of four gigabytes costs which stops reading. */
export const sshHostile: Benchmark = {
  id: "ssh.hostile_mib",
  against: "the limit of 16 MiB",
  measure: (system) =>
    withVm(system, async (vm) => {
      const pid = findDescendant(system.pid, "serve-forwarder");
      // What any transfer leaves in a process that has done none yet is no cost of the hostile one.
      const friendly = await login(system, vm);
      await execute(friendly, `head -c ${WARM_UP_BYTES} /dev/zero`);
      while (friendly.socket.bytesRead < WARM_UP_BYTES) await once(friendly.socket, "data");
      friendly.socket.destroy();
      const hostile = await login(system, vm);
      const before = await settledKib(pid);
      await execute(hostile, "cat /dev/zero");
      await once(hostile.socket, "data");
      hostile.socket.pause();
      let most = 0;
      for (const end = Date.now() + HOSTILE_MS; Date.now() < end; ) {
        most = Math.max(most, residentKib(pid));
        await pause(50);
      }
      hostile.socket.destroy();
      return { value: (most - before) / 1_024, baseline: 16, unit: "MiB" };
    }),
};

interface Session {
  readonly leg: PacketLeg;
  readonly socket: Socket;
  /** The VM's number of the first channel, once it is open. */
  readonly opened: Promise<number>;
}

/** Opens a channel with a window of four gigabytes and runs a command in it. */
async function execute({ leg, opened }: Session, command: string): Promise<void> {
  leg.send(Buffer.concat([Buffer.of(90), string("session"), uint32(0), uint32(0xffffffff), uint32(0xffffffff)]));
  const channel = await opened;
  leg.send(Buffer.concat([Buffer.of(98), uint32(channel), string("exec"), Buffer.of(0), string(command)]));
}

async function login(system: SystemAccess, { vmId, token }: BenchVm): Promise<Session> {
  const client = new ssh2.Client();
  const socket = connect({ host: system.sshHost, port: system.sshPort });
  const ready = once(client, "ready");
  client.connect({ sock: socket, username: `${vmId},${token}`, authHandler: ["none"] });
  const confirmed = Promise.withResolvers<number>();
  const leg = attachLeg(client, socket, ({ payload }) => {
    if (payload[0] === 91) confirmed.resolve(Buffer.from(payload).readUInt32BE(5));
  });
  await ready;
  client.on("error", () => undefined);
  return { leg, socket, opened: confirmed.promise };
}

/** Resident memory once it has stopped changing: the garbage of logins is gone. */
async function settledKib(pid: number): Promise<number> {
  let last = residentKib(pid);
  for (let same = 0; same < 5; ) {
    await pause(500);
    const now = residentKib(pid);
    same = Math.abs(now - last) < 256 ? same + 1 : 0;
    last = now;
  }
  return last;
}

function residentKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
