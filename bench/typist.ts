import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { pause } from "./ssh-session.ts";

/** Keystrokes whose times are not counted: the first ones wait for the login. */
const WARM_UP = 10;

/** Somebody who types into `ssh … cat` and waits for each letter to come back. */
export class Typist {
  readonly #ssh: ChildProcessByStdio<Writable, Readable, null>;
  #warm = false;

  /** `way`: arguments of `ssh` up to the destination. */
  constructor(way: readonly string[]) {
    this.#ssh = spawn("ssh", [...way, "cat"], { stdio: ["pipe", "pipe", "inherit"] });
  }

  /** The time of each keystroke until its echo, in milliseconds; `restMs` later comes the next one. */
  async type(keystrokes: number, restMs = 0): Promise<number[]> {
    if (!this.#warm) for (let stroke = 0; stroke < WARM_UP; stroke += 1) await this.#stroke();
    this.#warm = true;
    const times: number[] = [];
    while (times.length < keystrokes) {
      times.push(await this.#stroke());
      if (restMs > 0) await pause(restMs);
    }
    return times;
  }

  async leave(): Promise<void> {
    this.#ssh.stdin.end();
    await once(this.#ssh, "close");
  }

  async #stroke(): Promise<number> {
    const started = performance.now();
    this.#ssh.stdin.write("x");
    await once(this.#ssh.stdout, "data");
    return performance.now() - started;
  }
}
