import type { ZodType } from "zod";
import { type Result, success } from "../../protocol/failures.ts";
import type { Colo } from "./colo.ts";
import { type Fact, isAging, isUsable, type Kept, keep } from "./freshness.ts";
import { Lru } from "./lru.ts";
import { SingleFlight } from "./single-flight.ts";

/** How long a refresh may take before another may begin, in milliseconds. */
const REFRESH_PATIENCE_MS = 5_000;

/** Where an answer came from. `shared`: from the object, by the question of another request of the same moment. */
export type Level = "isolate" | "colo" | "object" | "shared";

/** What a look-up depends on. */
export interface Lookup {
  readonly clock: () => number;
  readonly colo: Colo;
  readonly maxEntries: number;
  readonly maxAgeMs: number;
  /** Age, in milliseconds, beyond which a fact that is used is read again behind the answer; at `maxAgeMs` or more: never. */
  readonly refreshAgeMs: number;
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
  /** Keys whose fact is read again behind an answer, with when that began. */
  readonly #refreshing = new Lru<number>();

  /** `schema`: the form of what the location keeps, since another build may have entered it. */
  constructor(name: string, schema: ZodType<Kept<T>>) {
    this.#name = name;
    this.#schema = schema;
  }

  get size(): number {
    return this.#kept.size;
  }

  /** The fact if this isolate has it and it is younger than `maxAgeMs`; `now` in milliseconds since 1970 UTC. */
  young(key: string, now: number, maxAgeMs: number): T | null {
    const kept = this.#kept.get(key);
    return kept !== undefined && isUsable(kept, now, maxAgeMs) ? kept.fact : null;
  }

  /** The fact if this isolate may use it, without a promise; one near its end is read again behind the answer. `read` asks the object. */
  near(key: string, lookup: Lookup, read: () => Promise<Result<T>>): T | null {
    const kept = this.#kept.get(key);
    if (kept === undefined || !isUsable(kept, lookup.clock(), lookup.maxAgeMs)) return null;
    this.#refreshAhead(key, kept, lookup, read);
    return kept.fact;
  }

  /** The fact from the nearest level that may say it. `read` asks the object. */
  async find(key: string, lookup: Lookup, read: () => Promise<Result<T>>): Promise<Found<T>> {
    const fact = this.near(key, lookup, read);
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
    this.#refreshing.clear();
  }

  /**
   * Has a fact that is in use and near its end read again behind the answer, so that whoever comes often never waits for an object.
   * Nothing is used for longer than before: the fact that is there keeps its end, and the new one is as old as its own read.
   */
  #refreshAhead(key: string, kept: Kept<T>, lookup: Lookup, read: () => Promise<Result<T>>): void {
    const now = lookup.clock();
    if (!isAging(kept, now, lookup.refreshAgeMs)) return;
    const begunAt = this.#refreshing.get(key);
    // One whose request was cancelled never ends: the next one begins when that one would have been due again.
    if (begunAt !== undefined && now >= begunAt && now - begunAt < REFRESH_PATIENCE_MS) return;
    this.#refreshing.set(key, now, lookup.maxEntries);
    lookup.waitUntil(this.#refresh(key, kept, lookup, read));
  }

  /** What was entered or dropped in the meantime stays so: it is newer than what was asked for here. */
  async #refresh(key: string, old: Kept<T>, lookup: Lookup, read: () => Promise<Result<T>>): Promise<void> {
    try {
      // Another isolate of this location may have read it already.
      const near = this.#schema.safeParse(await lookup.colo.get(this.#address(key)));
      const isNear = near.success && isUsable(near.data, lookup.clock(), lookup.maxAgeMs);
      if (isNear && !isAging(near.data, lookup.clock(), lookup.refreshAgeMs)) {
        if (this.#kept.get(key) === old) this.#kept.set(key, near.data, lookup.maxEntries);
        return;
      }
      const askedAt = lookup.clock();
      const result = await read();
      if (this.#kept.get(key) === old) this.#take(key, lookup, result, askedAt);
    } finally {
      this.#refreshing.delete(key);
    }
  }

  async #shared(key: string, begin: () => Promise<Found<T>>): Promise<Found<T>> {
    const { value, isShared } = await this.#reads.run(key, begin);
    return isShared && value.level === "object" ? { ...value, level: "shared" } : value;
  }

  async #findBeyond(key: string, lookup: Lookup, read: () => Promise<Result<T>>): Promise<Found<T>> {
    const kept = this.#schema.safeParse(await lookup.colo.get(this.#address(key)));
    if (kept.success && isUsable(kept.data, lookup.clock(), lookup.maxAgeMs)) {
      this.#kept.set(key, kept.data, lookup.maxEntries);
      this.#refreshAhead(key, kept.data, lookup, read);
      return { result: success(kept.data.fact), level: "colo" };
    }
    return this.#read(key, lookup, read);
  }

  async #read(key: string, lookup: Lookup, read: () => Promise<Result<T>>): Promise<Found<T>> {
    const askedAt = lookup.clock();
    return { result: this.#take(key, lookup, await read(), askedAt), level: "object" };
  }

  /** Enters what the object said, here and after the answer at the location; what it refuses is forgotten. */
  #take(key: string, lookup: Lookup, result: Result<T>, askedAt: number): Result<T> {
    if (!result.ok) {
      if (result.failure.kind !== "authority-unavailable") this.drop(key, lookup);
      return result;
    }
    const kept = keep(result.value, askedAt);
    this.#kept.set(key, kept, lookup.maxEntries);
    lookup.waitUntil(lookup.colo.put(this.#address(key), kept, lookup.maxAgeMs));
    return success(kept.fact);
  }

  #address(key: string): string {
    return `${this.#name} ${key}`;
  }
}
