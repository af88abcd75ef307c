import { calculateJwkThumbprint } from "jose";
import { CLOCK_TOLERANCE_S, MAX_TICKET_LIFE_S, TICKET_ALGORITHM } from "../protocol/ticket.ts";
import type { SigningKeysApi } from "./contract.ts";
import type { Env } from "./env.ts";
import { KeyVoiding, VOIDING_TABLES } from "./key-voiding.ts";
import { StoredObject } from "./stored-object.ts";

const SIGNING_KEYS_SCHEMA: readonly string[] = [
  `CREATE TABLE keys (
     kid TEXT PRIMARY KEY, private_jwk TEXT NOT NULL, created_at INTEGER NOT NULL, signs_from INTEGER NOT NULL
   );
   CREATE INDEX keys_in_order ON keys (signs_from);`,
  VOIDING_TABLES,
];

type Key = { kid: string; private_jwk: string; created_at: number; signs_from: number };

/**
 * The deployment's Ed25519 ticket keys. A key is published, signs from `signs_from` until the next one does, and is dropped
 * once no ticket of it can be alive. The states follow from the times, so no step can be missed or done twice.
 */
export class SigningKeys extends StoredObject implements SigningKeysApi {
  readonly #voiding: KeyVoiding;
  #first: Promise<void> | null = null;
  #voidingAll: ReturnType<SigningKeysApi["voidAll"]> | null = null;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env, SIGNING_KEYS_SCHEMA);
    this.#voiding = new KeyVoiding(ctx.storage, env, this.settings);
  }

  async signer(): Promise<{ kid: string; privateJwk: JsonWebKey; keepUntil: number }> {
    await this.#haveFirst();
    const now = this.clock();
    const keys = this.#keys();
    const signing = keys.findLast((key) => key.signs_from <= now) ?? keys[0];
    if (signing === undefined) throw new Error("there is no ticket key");
    const next = keys.find((key) => key.signs_from > now);
    // A key published later than this answer signs no earlier than the lead from now: until then this one is right.
    const hold = now + Math.min(this.settings.KEY_HOLD_MS, this.settings.KEY_PUBLISH_LEAD_MS);
    const keepUntil = next === undefined ? hold : Math.min(hold, next.signs_from);
    return { kid: signing.kid, privateJwk: JSON.parse(signing.private_jwk) as JsonWebKey, keepUntil };
  }

  async jwks(): Promise<{ keys: readonly JsonWebKey[] }> {
    await this.#haveFirst();
    const now = this.clock();
    return { keys: this.#keys().filter(this.#isPublished(now)).map(publicJwk) };
  }

  async rotate(): Promise<{ kid: string; signsFrom: number }> {
    await this.#haveFirst();
    const made = await generateKey();
    const now = this.clock();
    // One key waits at a time: rotating again while it does would only shorten the life of the key that signs.
    const waiting = this.#keys().find((key) => key.signs_from > now);
    if (waiting !== undefined) return { kid: waiting.kid, signsFrom: waiting.signs_from };
    const signsFrom = now + this.settings.KEY_PUBLISH_LEAD_MS;
    this.#insert(made, now, signsFrom);
    this.#setAlarm(now);
    return { kid: made.kid, signsFrom };
  }

  async voidAll(): ReturnType<SigningKeysApi["voidAll"]> {
    this.#voidingAll ??= this.#voidAll().finally(() => {
      this.#voidingAll = null;
    });
    return this.#voidingAll;
  }

  async #voidAll(): ReturnType<SigningKeysApi["voidAll"]> {
    await this.#haveFirst();
    const made = await generateKey();
    const now = this.clock();
    const voided = this.#keys().map((key) => key.kid);
    this.ctx.storage.transactionSync(() => {
      this.sql.exec("DELETE FROM keys");
      this.#insert(made, now, now);
      this.#voiding.add(voided, now);
      this.#setAlarm(now);
    });
    await this.#voiding.deliver();
    this.#setAlarm(this.clock());
    return { kid: made.kid, voided, untold: this.#voiding.untold() };
  }

  override async alarm(): Promise<void> {
    await this.#voiding.deliver();
    const now = this.clock();
    const keys = this.#keys();
    const published = keys.filter(this.#isPublished(now));
    for (const key of keys) {
      if (!published.includes(key)) this.sql.exec("DELETE FROM keys WHERE kid = ?", key.kid);
    }
    const newest = published.at(-1);
    if (newest !== undefined && now >= newest.created_at + this.settings.KEY_ROTATION_MS) await this.rotate();
    this.#setAlarm(now);
  }

  /** The very first key signs at once: nobody can hold a key set without it. */
  async #haveFirst(): Promise<void> {
    if (this.#keys().length > 0) return;
    this.#first ??= this.#makeFirst().finally(() => {
      this.#first = null;
    });
    await this.#first;
  }

  async #makeFirst(): Promise<void> {
    const made = await generateKey();
    this.schema.prepare();
    const now = this.clock();
    this.#insert(made, now, now);
    this.#setAlarm(now);
  }

  #keys(): Key[] {
    if (!this.schema.exists) return [];
    return this.sql.exec<Key>("SELECT kid, private_jwk, created_at, signs_from FROM keys ORDER BY signs_from").toArray();
  }

  #insert(made: { kid: string; privateJwk: JsonWebKey }, now: number, signsFrom: number): void {
    this.sql.exec(
      "INSERT INTO keys (kid, private_jwk, created_at, signs_from) VALUES (?, ?, ?, ?)",
      made.kid,
      JSON.stringify(made.privateJwk),
      now,
      signsFrom,
    );
  }

  /** When the last ticket of a key that was replaced at `replacedAt` is dead everywhere. */
  #retiresAt(replacedAt: number): number {
    return replacedAt + (MAX_TICKET_LIFE_S + CLOCK_TOLERANCE_S) * 1000 + this.settings.KEY_RETIRE_MARGIN_MS;
  }

  #isPublished(now: number) {
    return (_key: Key, index: number, keys: readonly Key[]) => {
      const successor = keys[index + 1];
      return successor === undefined || now < this.#retiresAt(successor.signs_from);
    };
  }

  #setAlarm(now: number): void {
    const keys = this.#keys();
    const newest = keys.at(-1);
    if (newest === undefined) return;
    const retirements = keys.slice(1).map((key) => this.#retiresAt(key.signs_from));
    const retry = this.#voiding.untold().length > 0 ? [now + this.settings.FLOOR_RETRY_MIN_MS] : [];
    const due = Math.min(newest.created_at + this.settings.KEY_ROTATION_MS, ...retirements, ...retry);
    this.ctx.storage.setAlarm(Math.max(due, now + 1));
  }
}

async function generateKey(): Promise<{ kid: string; privateJwk: JsonWebKey }> {
  const pair = (await crypto.subtle.generateKey({ name: "Ed25519" }, true, ["sign", "verify"])) as CryptoKeyPair;
  const { kty, crv, x, d } = (await crypto.subtle.exportKey("jwk", pair.privateKey)) as JsonWebKey;
  if (kty === undefined || crv === undefined || x === undefined || d === undefined) throw new Error("key generation failed");
  // RFC 7638: the thumbprint names the key by its public members only.
  const kid = await calculateJwkThumbprint({ kty, crv, x });
  return { kid, privateJwk: { kty, crv, x, d } };
}

function publicJwk(key: Key): JsonWebKey {
  const { kty, crv, x } = JSON.parse(key.private_jwk) as { kty: string; crv: string; x: string };
  return { kty, crv, x, kid: key.kid, use: "sig", alg: TICKET_ALGORITHM } as JsonWebKey;
}
