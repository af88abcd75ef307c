import type { ZodType } from "zod";
import { type Result, success } from "../../protocol/failures.ts";
import type { Colo } from "./colo.ts";
import { type Fact, isUsable, type Kept, keep } from "./freshness.ts";
import { Lru } from "./lru.ts";
import { SingleFlight } from "./single-flight.ts";

/** Where an answer came from. `shared`: from the object, by the question of another request of the same moment. */
export type Level = "isolate" | "colo" | "object" | "shared";

/** What a look-up depends on. */
export interface Lookup {
  readonly clock: () => number;
  readonly colo: Colo;
  readonly maxEntries: number;
  readonly maxAgeMs: number;
  /** Lets work go on after the answer. */
  readonly waitUntil: (work: Promise<unknown>) => void;
}

export interface Found<T> {
  readonly result: Result<T>;
  readonly level: Level;
}

/** Facts of one kind in three levels: this isolate, its location, the object itself. Only successes are kept. */
export class FactCache<T extends Fact> {
  readonly #name: string;
  readonly #schema: ZodType<Kept<T>>;
  readonly #kept = new Lru<Kept<T>>();
  readonly #reads = new SingleFlight<Found<T>>();

  /** `schema`: the form of what the location keeps, since another build may have entered it. */
  constructor(name: string, schema: ZodType<Kept<T>>) {
    this.#name = name;
    this.#schema = schema;
  }

  get size(): number {
    return this.#kept.size;
  }

  /** The fact, if this isolate may use it: no promise, no work. */
  peek(key: string, lookup: Lookup): T | null {
    const kept = this.#kept.get(key);
    return kept !== undefined && isUsable(kept, lookup.clock(), lookup.maxAgeMs) ? kept.fact : null;
  }

  /** The fact from the nearest level that may say it. `read` asks the object. */
  async find(key: string, lookup: Lookup, read: () => Promise<Result<T>>): Promise<Found<T>> {
    const fact = this.peek(key, lookup);
    if (fact !== null) return { result: success(fact), level: "isolate" };
    return this.#shared(key, () => this.#findBeyond(key, lookup, read));
  }

  /**
   * The fact from its object, after a verifier refused what was known. Only questions that began after the refusal of the same
   * fact are shared, so that the answer cannot be older than the refusal.
   */
  async reread(key: string, refused: T, lookup: Lookup, read: () => Promise<Result<T>>): Promise<Found<T>> {
    this.#kept.delete(key);
    return this.#shared(`${key} after ${refused.readAt}`, () => this.#read(key, lookup, read));
  }

  /** Enters a fact that was read in some other way. */
  enter(key: string, kept: Kept<T>, lookup: Lookup): void {
    this.#kept.set(key, kept, lookup.maxEntries);
  }

  /** Forgets a fact in this isolate and, after the answer, at its location. */
  drop(key: string, lookup: Lookup): void {
    this.#kept.delete(key);
    lookup.waitUntil(lookup.colo.drop(this.#address(key)));
  }

  clear(): void {
    this.#kept.clear();
  }

  async #shared(key: string, begin: () => Promise<Found<T>>): Promise<Found<T>> {
    const { value, isShared } = await this.#reads.run(key, begin);
    return isShared && value.level === "object" ? { ...value, level: "shared" } : value;
  }

  async #findBeyond(key: string, lookup: Lookup, read: () => Promise<Result<T>>): Promise<Found<T>> {
    const kept = this.#schema.safeParse(await lookup.colo.get(this.#address(key)));
    if (kept.success && isUsable(kept.data, lookup.clock(), lookup.maxAgeMs)) {
      this.#kept.set(key, kept.data, lookup.maxEntries);
      return { result: success(kept.data.fact), level: "colo" };
    }
    return this.#read(key, lookup, read);
  }

  async #read(key: string, lookup: Lookup, read: () => Promise<Result<T>>): Promise<Found<T>> {
    const askedAt = lookup.clock();
    const result = await read();
    if (!result.ok) {
      if (result.failure.kind !== "authority-unavailable") this.drop(key, lookup);
      return { result, level: "object" };
    }
    const kept = keep(result.value, askedAt);
    this.#kept.set(key, kept, lookup.maxEntries);
    lookup.waitUntil(lookup.colo.put(this.#address(key), kept, lookup.maxAgeMs));
    return { result: success(kept.fact), level: "object" };
  }

  #address(key: string): string {
    return `${this.#name} ${key}`;
  }
}
