import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type BenchVm, withVm } from "./account.ts";
import { ATTACKS, type Attack } from "./attacks.ts";
import { type Benchmark, median, percentile } from "./figure.ts";
import { type ForwarderAddress, withSecondForwarder } from "./second-forwarder.ts";
import { wayThrough } from "./ssh-ways.ts";
import { Typist } from "./typist.ts";

/** In each round, on each side. */
const KEYSTROKES = 150;
const ROUNDS = 3;
/** Faster than anybody types, yet a small part of what a forwarder can do. */
const REST_MS = 10;
const ATTACK = fileURLToPath(new URL("attack.ts", import.meta.url));

/**
 * Time from a keystroke to its echo in a session of another VM while hostile clients are at work on the session's forwarder,
 * against the same while the same clients do the same to another forwarder: what is lost beside that is the machine's cores and not the
 * forwarder's doing. Medians; the 95th percentiles, printed beside them, tell more of who else runs on the machine.
 */
function neighbour(id: string, attacks: readonly Attack[]): Benchmark {
  return {
    id,
    against: "beside the same attack on another forwarder",
    measure: (system) =>
      withSecondForwarder(system, (other) =>
        withVm(system, (quiet) =>
          withVm(system, async (hostile) => {
            const ours = { host: system.sshHost, port: system.sshPort };
            const typist = new Typist(wayThrough(system, quiet));
            try {
              await typist.type(KEYSTROKES, REST_MS);
              const alone = await typist.type(KEYSTROKES, REST_MS);
              const [besideOurs, besideOther] = [
                new Beside(typist, hostile, attacks, ours),
                new Beside(typist, hostile, attacks, other),
              ];
              for (let round = 0; round < ROUNDS; round += 1) {
                await besideOther.measure();
                await besideOurs.measure();
              }
              console.error(`${id}: alone ${summary(alone)}`);
              console.error(`  attack on the other forwarder ${besideOther.toString()}`);
              console.error(`  attack on this forwarder      ${besideOurs.toString()}`);
              return { value: median(besideOurs.times), baseline: median(besideOther.times), unit: "ms" };
            } finally {
              await typist.leave();
            }
          }),
        ),
      ),
  };
}

/** A typist beside attacks on one forwarder. */
class Beside {
  readonly times: number[] = [];
  readonly #typist: Typist;
  readonly #vm: BenchVm;
  readonly #attacks: readonly Attack[];
  readonly #victim: ForwarderAddress;
  #work = 0;
  #seconds = 0;

  constructor(typist: Typist, vm: BenchVm, attacks: readonly Attack[], victim: ForwarderAddress) {
    this.#typist = typist;
    this.#vm = vm;
    this.#attacks = attacks;
    this.#victim = victim;
  }

  async measure(): Promise<void> {
    const running = this.#attacks.map((attack) => new RunningAttack(attack, this.#victim, this.#vm));
    try {
      await Promise.all(running.map((attack) => attack.begun()));
      const started = performance.now();
      this.times.push(...(await this.#typist.type(KEYSTROKES, REST_MS)));
      this.#seconds += (performance.now() - started) / 1_000;
    } finally {
      const works = await Promise.all(running.map((attack) => attack.end()));
      for (const work of works) this.#work += work;
    }
  }

  /** What the attackers did each second is the same on both sides, or the sides do not compare. */
  toString(): string {
    return `${summary(this.times)}; ${Math.round(this.#work / this.#seconds)} steps of attackers a second`;
  }
}

class RunningAttack {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #ended: Promise<unknown>;
  #work = 0;

  constructor(attack: Attack, { host, port }: ForwarderAddress, { vmId, token }: BenchVm) {
    const child = spawn(process.execPath, [ATTACK, attack, host, String(port), vmId, token], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#child = child;
    this.#ended = once(child, "close");
    this.#lines = createInterface(child.stdout);
    this.#lines.on("line", (line) => {
      this.#work = Number(line);
    });
  }

  async begun(): Promise<void> {
    await Promise.race([once(this.#lines, "line"), this.#tooSoon()]);
  }

  /** Answers the steps that it took after it had begun. */
  async end(): Promise<number> {
    this.#child.kill("SIGTERM");
    await this.#ended;
    return this.#work;
  }

  async #tooSoon(): Promise<never> {
    await this.#ended;
    throw new Error("an attack ended before it had begun");
  }
}

function summary(times: readonly number[]): string {
  return `median ${median(times).toFixed(2)} ms, 95th percentile ${percentile(times, 0.95).toFixed(2)} ms`;
}

/** All of them at once, and each alone. */
export const sshNeighbour: readonly Benchmark[] = [
  neighbour("ssh.neighbour_ms", ATTACKS),
  ...ATTACKS.map((attack) => neighbour(`ssh.neighbour_ms.${attack}`, [attack])),
];
