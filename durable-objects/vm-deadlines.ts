import type { VmRow } from "./vm-store.ts";

/**
 * When a VM is to be deleted by itself, milliseconds since 1970 UTC; null: never, as things are. An `autoDeleteSeconds` of 0
 * means a VM that ends when it stops, so mere sleep does not delete it.
 */
export function deletionDueAt({ state, traits, createdAt, restedAt }: VmRow): number | null {
  if (state === "deleted") return null;
  const { ttlSeconds, autoDeleteSeconds } = traits;
  const times: number[] = [];
  if (ttlSeconds !== null) times.push(createdAt + ttlSeconds * 1000);
  const counts = autoDeleteSeconds !== 0 || state !== "suspended";
  if (autoDeleteSeconds !== null && restedAt !== null && counts) times.push(restedAt + autoDeleteSeconds * 1000);
  return times.length === 0 ? null : Math.min(...times);
}
