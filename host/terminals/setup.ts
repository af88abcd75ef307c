import type { Clock, RandomBytes } from "../../protocol/bytes.ts";
import { LiveSessions, type LiveSessionsOptions } from "../../service/live-sessions.ts";
import type { Log } from "../../service/log.ts";
import type { Accounts } from "../accounts.ts";
import type { GuestSsh } from "../guest-ssh.ts";
import type { HostSettings } from "../settings.ts";
import { Terminals } from "./terminals.ts";
import { TerminalUpgrades, type UpgradeParts } from "./upgrades.ts";

export interface TerminalNeeds {
  readonly guests: GuestSsh;
  readonly accounts: Accounts;
  readonly clock: Clock;
  readonly randomBytes: RandomBytes;
  readonly log: Log;
  /** Told of every socket that attaches and of every keystroke: both count as use of the VM. */
  readonly onActivity: (vmId: string) => void;
}

/** The host's terminal sessions, by its settings. */
export function createTerminals(settings: HostSettings, { guests, accounts, ...rest }: TerminalNeeds): Terminals {
  const shell = {
    guests,
    accounts,
    drainMs: settings.POSTERN_EXEC_DRAIN_MS,
    killGraceMs: settings.POSTERN_EXEC_KILL_GRACE_MS,
  };
  const limits = {
    scrollbackBytes: settings.POSTERN_TERMINAL_SCROLLBACK_BYTES,
    highWaterBytes: settings.POSTERN_TERMINAL_HIGH_WATER_BYTES,
    quickExits: settings.POSTERN_TERMINAL_QUICK_EXITS,
    quickExitMs: settings.POSTERN_TERMINAL_QUICK_EXIT_MS,
  };
  return new Terminals(
    { shell, limits, ...rest },
    {
      perVm: settings.POSTERN_VM_TERMINALS,
      keepMs: settings.POSTERN_TERMINAL_KEEP_MS,
      checkMs: settings.POSTERN_TERMINAL_CHECK_MS,
    },
  );
}

/** The way in to them. */
export function createUpgrades(settings: HostSettings, parts: Omit<UpgradeParts, "limits" | "frameBytes">): TerminalUpgrades {
  const limits = {
    backlogBytes: settings.POSTERN_TERMINAL_BACKLOG_BYTES,
    highWaterBytes: settings.POSTERN_TERMINAL_HIGH_WATER_BYTES,
    pingMs: settings.POSTERN_TERMINAL_PING_MS,
    closeGraceMs: settings.POSTERN_CLOSE_GRACE_MS,
  };
  return new TerminalUpgrades({ ...parts, limits, frameBytes: settings.POSTERN_TERMINAL_FRAME_BYTES });
}

/** Authorises live sockets anew when floors rise, by asking the edge. */
export function watchLiveSessions(settings: HostSettings, parts: Omit<LiveSessionsOptions, "times">): LiveSessions {
  const times = {
    recheckDeadlineMs: settings.POSTERN_RECHECK_DEADLINE_MS,
    recheckRetryMs: settings.POSTERN_RECHECK_RETRY_MS,
    silentRecheckMs: settings.POSTERN_SILENT_RECHECK_MS,
    unconfirmedMs: settings.POSTERN_UNCONFIRMED_SESSION_MS,
  };
  return new LiveSessions({ ...parts, times });
}
