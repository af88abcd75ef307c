import { once } from "node:events";
import type { Socket } from "node:net";
import { findDescendant } from "../test/system/processes.ts";
import { withVm } from "./account.ts";
import type { Benchmark } from "./figure.ts";
import { openIdleVm, withForwarder } from "./forwarder-alone.ts";
import { execute, login, pause, residentKib, settledKib } from "./ssh-session.ts";

const IDLE_SESSIONS = 2_000;
const WARM_UP_SESSIONS = 100;
const LOGINS_AT_ONCE = 20;
/** How long a hostile client leaves its window open and reads nothing, in milliseconds. */
const HOSTILE_MS = 8_000;
const WARM_UP_BYTES = 64 * 1024 * 1024;

/** More than one guest's sshd takes, so the VM is a light one; the forwarder is as it is started. */
const NO_LIMITS = {
  POSTERN_SSH_MAX_PER_ADDRESS: "10000",
  POSTERN_SSH_UNAUTHENTICATED_PER_ADDRESS: "1000",
  POSTERN_SSH_UNAUTHENTICATED_START: "1000",
  POSTERN_SSH_UNAUTHENTICATED_FULL: "1001",
};

/** Resident memory that the forwarder needs for one more idle session. */
export const sshIdle: Benchmark = {
  id: "ssh.idle_kib",
  against: "the limit of 64 KiB a session",
  measure: () =>
    withForwarder(openIdleVm, NO_LIMITS, async ({ pid, port, vmId, token }) => {
      const sessions: Socket[] = [];
      const logIn = async (count: number) => {
        for (const until = sessions.length + count; sessions.length < until; ) {
          const batch = Array.from({ length: LOGINS_AT_ONCE }, () => login("127.0.0.1", port, vmId, token));
          sessions.push(...(await Promise.all(batch)).map(({ socket }) => socket));
        }
      };
      await logIn(WARM_UP_SESSIONS);
      const before = await settledKib(pid);
      await logIn(IDLE_SESSIONS);
      const after = await settledKib(pid);
      for (const socket of sessions) socket.destroy();
      return { value: (after - before) / IDLE_SESSIONS, baseline: 64, unit: "KiB" };
    }),
};

/** Most resident memory that a client with a window of four gigabytes costs which stops reading. */
export const sshHostile: Benchmark = {
  id: "ssh.hostile_mib",
  against: "the limit of 16 MiB",
  measure: (system) =>
    withVm(system, async ({ vmId, token }) => {
      const pid = findDescendant(system.pid, "serve-forwarder");
      const enter = () => login(system.sshHost, system.sshPort, vmId, token);
      // What any transfer leaves in a process that has done none yet is no cost of the hostile one.
      const friendly = await enter();
      await execute(friendly, `head -c ${WARM_UP_BYTES} /dev/zero`);
      while (friendly.socket.bytesRead < WARM_UP_BYTES) await once(friendly.socket, "data");
      friendly.socket.destroy();
      const hostile = await enter();
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
