import { connect } from "node:net";
import { createInterface } from "node:readline";

/** What `vm-agent` in the guest does when it is told. */
export type GuestVerb = "adopt" | "wake" | "sync" | "off";

/** The line to a guest's `vm-agent`: its second serial port, as a socket of QEMU's. One question at a time per guest. */
export class GuestLine {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Tells the guest to do something and waits until it says that it did. False: it did not say so in time, because it is not
   * up, or does not care to. Words hold no spaces.
   */
  ask(verb: GuestVerb, words: readonly string[], timeoutMs: number): Promise<boolean> {
    // Told apart from the answers of earlier questions that nobody waits for any more.
    const number = String(performance.timeOrigin + performance.now()).replace(/\D/g, "");
    return this.#listen(`${[number, verb, ...words].join(" ")}\n`, `ok ${number}`, timeoutMs);
  }

  /** Waits for the line that a guest says once, when it is up. Must be called before the guest runs. */
  ready(timeoutMs: number): Promise<boolean> {
    return this.#listen(null, "ready", timeoutMs);
  }

  #listen(say: string | null, wanted: string, timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.#path);
      const timer = setTimeout(() => socket.destroy(), timeoutMs);
      let heard = false;
      // An empty line first: what a guest's terminal may hold of a line that was cut off must not spoil this one.
      socket.once("connect", () => say !== null && socket.write(`\n${say}`));
      socket.on("error", () => undefined);
      socket.once("close", () => {
        clearTimeout(timer);
        resolve(heard);
      });
      const lines = createInterface({ input: socket });
      lines.on("error", () => undefined);
      lines.on("line", (line) => {
        if (line.trim() !== wanted) return;
        heard = true;
        socket.destroy();
      });
    });
  }
}
