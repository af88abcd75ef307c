import { sha256Hex } from "../../protocol/bytes.ts";
import { type FailureKind, failure, type Result } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { accountObject, ask, tell } from "../objects.ts";
import { Pending } from "./background.ts";

/** Something to make at most once for each idempotency key. */
export interface Creation<T> {
  /** What it is and everything that is wanted of it, as JSON: a key stands for one wish. */
  readonly wish: object;
  newId(): string;
  /** Makes it under this id; of an id that is there already it answers what an earlier attempt made, once that is known. */
  make(id: string): Promise<Result<T>>;
}

/** Any text that a header can carry, as draft-ietf-httpapi-idempotency-key-header has it. */
const KEY_PATTERN = /^[\x21-\x7e]{1,255}$/;

/** Failures that leave open whether the thing was made. */
const OPEN: ReadonlySet<FailureKind> = new Set(["authority-unavailable", "host-unavailable", "internal", "vm-busy"]);
const GONE: ReadonlySet<FailureKind> = new Set(["vm-not-found", "snapshot-not-found"]);

/**
 * Makes something; with an `Idempotency-Key` at most once, so that whoever lost the answer may ask again. A key whose attempt
 * certainly failed may be used again, and one whose thing was deleted meanwhile makes no other: `conflict`.
 */
export async function makeOnce<T>(edge: Edge, accountId: string, creation: Creation<T>): Promise<Result<T>> {
  const { idempotencyKey: key } = edge;
  if (key === null) return creation.make(creation.newId());
  if (!KEY_PATTERN.test(key)) {
    return failure("bad-request", "Idempotency-Key: must be 1 to 255 visible ASCII characters.", { path: "Idempotency-Key" });
  }
  const keyHash = await sha256Hex(key);
  const wishHash = await sha256Hex(JSON.stringify(creation.wish));
  const attempt = async (): Promise<{ readonly made: Result<T>; readonly mayRepeat: boolean }> => {
    const own = creation.newId();
    const claimed = await ask(() => accountObject(edge.env, accountId).claimCreation({ keyHash, wishHash, id: own }));
    if (!claimed.ok) return { made: claimed, mayRepeat: false };
    const { id, isMade } = claimed.value;
    const made = await creation.make(id);
    const isGone = !made.ok && id !== own && GONE.has(made.failure.kind);
    if (isGone && isMade) return { made: DELETED, mayRepeat: false };
    await settle(edge, accountId, keyHash, id, made);
    return { made, mayRepeat: isGone };
  };
  const first = await attempt();
  return first.mayRepeat ? (await attempt()).made : first.made;
}

const DELETED = failure(
  "conflict",
  "What was made with this Idempotency-Key has been deleted since. Send a new key to make another.",
);

async function settle(edge: Edge, accountId: string, keyHash: string, id: string, made: Result<unknown>): Promise<void> {
  if (made.ok ? made.value instanceof Pending : OPEN.has(made.failure.kind)) return;
  await tell(() => accountObject(edge.env, accountId).settleCreation(keyHash, id, made.ok));
}

/**
 * Where an id is there already an attempt before this one got so far: then what came of that one. A conflict about something
 * else, such as a slug, stays.
 */
export async function unlessTaken<T>(made: Result<T>, earlier: () => Promise<Result<T>>): Promise<Result<T>> {
  if (made.ok || made.failure.kind !== "conflict" || made.failure.details?.taken !== "id") return made;
  return ask(earlier);
}
