import { type ChildProcess, spawn } from "node:child_process";
import { open, readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { Log } from "../../service/log.ts";
import { DriverError } from "../driver.ts";
import { killService } from "./leftovers.ts";
import type { PodmanHome } from "./podman-home.ts";

const POLL_MS = 20;
const RESTART_PAUSE_MS = 500;

export interface PodmanServiceOptions {
  readonly home: PodmanHome;
  readonly log: Log;
  /** Resolves when the service answers. */
  readonly ping: () => Promise<unknown>;
  /** Called when the service, which had ended, answers again; with when it was started, epoch milliseconds. Does not reject. */
  readonly tidy: (startedMs: number) => Promise<void>;
  /** How long it may take to answer its first ping, milliseconds. */
  readonly readyMs: number;
}

/** podman's Docker-compatible API on a unix socket, kept running until it is closed. */
export class PodmanService {
  readonly #home: PodmanHome;
  readonly #log: Log;
  readonly #options: PodmanServiceOptions;
  #child: ChildProcess | null = null;
  #closing = false;

  constructor(options: PodmanServiceOptions) {
    this.#home = options.home;
    this.#log = options.log;
    this.#options = options;
  }

  /**
   * Starts it; resolves when it answers. Throws `DriverError` `engine` with podman's own words when it does not in time; it is to be
   * closed then too.
   */
  async open(): Promise<void> {
    await this.#spawn();
    if (await this.#isReady()) return;
    const words = await readFile(this.#home.serviceLog, "utf8").catch(() => "");
    throw new DriverError("engine", `podman's service did not start: ${words.slice(-2_000).trim()}`);
  }

  async close(): Promise<void> {
    this.#closing = true;
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  async #isReady(): Promise<boolean> {
    const { ping, readyMs } = this.#options;
    const child = this.#child;
    const deadline = Date.now() + readyMs;
    while (Date.now() < deadline) {
      const answered = await ping().then(
        () => true,
        () => false,
      );
      if (answered) return true;
      if (child?.exitCode !== null || child.signalCode !== null) return false;
      await delay(POLL_MS);
    }
    return false;
  }

  async #spawn(): Promise<void> {
    const log = await open(this.#home.serviceLog, "w", 0o600);
    // The kernel ends it if this process dies; its own session, so that Ctrl-C in a terminal does not end it before us.
    const argv = ["--pdeathsig", "KILL", "podman", "system", "service", "--time=0", `unix://${this.#home.socket}`];
    const child = spawn("setpriv", argv, { env: this.#home.env, detached: true, stdio: ["ignore", log.fd, log.fd] });
    this.#child = child;
    child.on("error", (error) => this.#log.error("podman's service could not be run", { error: error.message }));
    child.on("exit", (status, signal) => {
      if (this.#closing || status === 125) return;
      this.#log.error("podman's service ended and is started again", { status, signal });
      setTimeout(() => void this.#respawn(), RESTART_PAUSE_MS).unref();
    });
    await log.close();
  }

  async #respawn(): Promise<void> {
    if (this.#closing) return;
    const startedMs = Date.now();
    try {
      // One that is killed while it maps ids may leave a fork of itself, which holds its locks on the store for good.
      await killService(this.#home);
      await this.#spawn();
    } catch (error) {
      this.#log.error("podman's service could not be started again", { error: String(error) });
      return;
    }
    if (await this.#isReady()) await this.#options.tidy(startedMs);
  }
}
