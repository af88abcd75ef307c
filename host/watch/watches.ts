import type { Readable } from "node:stream";
import type { Client, ClientChannel } from "ssh2";
import { failure, type Result, success } from "../../protocol/failures.ts";
import type { Files } from "../files.ts";
import type { GuestSsh } from "../guest-ssh.ts";
import type { ManagedMachine } from "../machine.ts";
import { shellQuote } from "../shell-quote.ts";
import { EventStream } from "./event-stream.ts";

export interface WatchLimits {
  /** Watches in one VM at once. */
  readonly perVm: number;
  /** Longest wait, in milliseconds, until a directory and all below it are watched. */
  readonly startMs: number;
  /** Longest silence, in milliseconds. */
  readonly pingMs: number;
}

export interface WatchParts {
  readonly guests: GuestSsh;
  readonly files: Files;
  readonly limits: WatchLimits;
}

/** The directory, by the environment, so that no shell reads it. */
const PATH_VARIABLE = "POSTERN_PATH";
const HOME = ".";
const NOT_INSTALLED = 127;
const CLOSED = 126;
/** What inotifywait says once every directory is watched. */
const READY = "Watches established.";
/** Of what the watcher complains, this much is looked at. */
const MAX_COMPLAINT_LENGTH = 4096;

/**
 * Watches until its standard input ends, which it does with the channel, however that ends: so no watcher outlives its
 * caller. The watched directory is the working directory, and paths are relative to it.
 */
const SCRIPT = `
command -v inotifywait >/dev/null || exit ${NOT_INSTALLED}
unset CDPATH
case $${PATH_VARIABLE} in /*) ;; *) ${PATH_VARIABLE}=./$${PATH_VARIABLE};; esac
cd -- "$${PATH_VARIABLE}" || exit ${CLOSED}
exec 3<&0
LC_ALL=C inotifywait --monitor --recursive --no-dereference --no-newline --format '%e%0%w%f%0' \\
  --event modify,attrib,create,delete,move . 3<&- &
watcher=$!
{ cat <&3; kill $watcher; } >/dev/null 2>&1 &
exec 3<&-
wait $watcher
`;

/** Watches directories of guests for changes, by inotify in the guest, as the ticket's Linux user. */
export class Watches {
  readonly #parts: WatchParts;
  readonly #count = new WeakMap<ManagedMachine, number>();

  constructor(parts: WatchParts) {
    this.#parts = parts;
  }

  /**
   * Begins to watch a directory and all below it; "" is the user's home. Wakes the VM. The stream holds `FileEvent`s, one JSON
   * document a line, and ends with the machine or the directory; destroying it ends the watch.
   */
  async open(machine: ManagedMachine, linuxUser: string, path: string): Promise<Result<Readable>> {
    const { perVm } = this.#parts.limits;
    const count = this.#count.get(machine) ?? 0;
    if (count >= perVm) return failure("quota-exceeded", `A VM may have ${perVm} watches at once.`, { limit: perVm });
    this.#count.set(machine, count + 1);
    let held = true;
    const giveBack = () => {
      if (held) this.#count.set(machine, (this.#count.get(machine) ?? 1) - 1);
      held = false;
    };
    const opened = await this.#open(machine, linuxUser, path === "" ? HOME : path, giveBack);
    if (!opened.ok) giveBack();
    return opened;
  }

  async #open(machine: ManagedMachine, linuxUser: string, path: string, giveBack: () => void): Promise<Result<Readable>> {
    const { guests, files, limits } = this.#parts;
    const found = await files.status(machine, linuxUser, path);
    if (!found.ok) return found;
    if (found.value.kind !== "directory") return failure("file-bad-request", `'${path}' is no directory.`, { path });
    // Not in the line of operations: a watch lasts, and has a limit of its own.
    const opened = await guests.open(machine, linuxUser, (client) => startWatcher(client, path, limits.startMs));
    if (!opened.ok) return opened;
    const { release, down } = opened.value;
    const { channel, refused, closed } = opened.value.channel;
    const end = () => {
      channel.close();
      // `ssh2` tells of the close only once all that came before it was read.
      channel.unpipe().resume();
    };
    down.addEventListener("abort", end, { once: true });
    const events = new EventStream(limits.pingMs);
    events.once("close", end);
    void closed.then(() => {
      down.removeEventListener("abort", end);
      release();
      giveBack();
      events.end();
    });
    const refusal = await refused;
    if (refusal !== null) {
      events.destroy();
      return refusal;
    }
    channel.pipe(events);
    return success(events);
  }
}

/** A process that watches, or could not. */
interface Watcher {
  readonly channel: ClientChannel;
  /** Why it does not watch; null once it does. */
  readonly refused: Promise<Result<never> | null>;
  readonly closed: Promise<void>;
}

function startWatcher(client: Client, path: string, startMs: number): Promise<Watcher> {
  const command = `exec /bin/sh -c ${shellQuote(SCRIPT)}`;
  return new Promise((resolve, reject) => {
    client.exec(command, { env: { [PATH_VARIABLE]: path } }, (error, channel) => {
      if (error !== undefined) {
        reject(error);
        return;
      }
      channel.on("error", () => undefined);
      const closed = new Promise<void>((done) => channel.once("close", () => done()));
      // At once: what the guest sent may already be waiting for listeners.
      resolve({ channel, refused: refusalOf(channel, path, startMs), closed });
    });
  });
}

function refusalOf(channel: ClientChannel, path: string, startMs: number): Promise<Result<never> | null> {
  return new Promise((resolve) => {
    let said = "";
    const settle = (refusal: Result<never> | null) => {
      clearTimeout(timer);
      // What it says later is nobody's, and must not fill the channel's window.
      channel.stderr.removeAllListeners("data").resume();
      resolve(refusal);
    };
    const timer = setTimeout(() => {
      settle(failure("file-bad-request", `'${path}' holds too many directories to watch. Watch a smaller one.`, { path }));
    }, startMs);
    channel.stderr.on("data", (data: Buffer) => {
      said = (said + data.toString("utf8")).slice(-MAX_COMPLAINT_LENGTH);
      if (said.includes(READY)) settle(null);
    });
    channel.once("exit", (status: number | null) => settle(explain(status, said, path)));
    channel.once("close", () => settle(failure("host-unavailable", "The connection to the VM broke. Try again.")));
  });
}

function explain(status: number | null, said: string, path: string): Result<never> {
  if (status === NOT_INSTALLED) {
    return failure(
      "unsupported",
      "The VM has no inotifywait, which watching files needs. Install the package inotify-tools in it.",
    );
  }
  if (status === CLOSED) return failure("file-access-denied", `Access to '${path}' is denied.`, { path });
  const complaint = said.trim().split("\n").at(-1) ?? "";
  return failure("file-bad-request", `'${path}' cannot be watched: ${complaint}`, { path });
}
