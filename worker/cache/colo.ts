/** What the isolates of one location share. Best effort: whatever fails is as if it were not there. */
export interface Colo {
  /** The value entered under a key; null when there is none; `undefined` when nobody can say. */
  get(key: string): Promise<unknown>;
  put(key: string, value: unknown, maxAgeMs: number): Promise<void>;
  drop(key: string): Promise<void>;
}

/** A deployment without a cache of its location: every isolate is on its own. */
export const noColo: Colo = {
  get: async () => null,
  put: async () => undefined,
  drop: async () => undefined,
};
