import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { Env } from "../../durable-objects/env.ts";
import type { SettingName } from "../../durable-objects/settings.ts";
import type { StoredObject } from "../../durable-objects/stored-object.ts";
import { platformRandomBytes, sha256Hex } from "../../protocol/bytes.ts";
import type { Result } from "../../protocol/failures.ts";
import { newObjectName, newVmId, regionObjectName } from "../../protocol/ids.ts";

/** Bindings of the test deployment. */
export const bindings = env as unknown as Env;

/** Names that no other test uses. */
export const freshName = () => newObjectName(platformRandomBytes);
export const freshVmId = () => newVmId(platformRandomBytes);

/** The value of a result that must be a success. */
export function must<T>(result: Result<T>): T {
  if (!result.ok) throw new Error(`expected a success, got ${result.failure.kind}: ${result.failure.message}`);
  return result.value;
}

/** The kind of a result that must be a failure. */
export function refusal<T>(result: Result<T>): string {
  return result.ok ? "no refusal" : result.failure.kind;
}

/** A new account and its first key. */
export async function newAccount() {
  const id = freshName();
  const object = bindings.ACCOUNT.getByName(id);
  return { id, object, ...must(await object.create("test")) };
}

/** A new identity of an account. */
export async function newIdentity(accountId: string, managed = false) {
  const id = freshName();
  const object = bindings.IDENTITY.getByName(id);
  must(await object.create(accountId, managed));
  return { id, object };
}

/** SHA-256 of the secret part of a credential's text. */
export const secretHashOf = (text: string) => sha256Hex(text.slice(20, 44));

/** The one region of the test deployment. */
export async function localRegion() {
  return bindings.REGION.getByName(await regionObjectName("local"));
}

type Stub = DurableObjectStub<StoredObject>;

/** Moves an object's clock; lasts until the object is evicted. */
export async function setClock(stub: unknown, now: number): Promise<void> {
  await runInDurableObject<StoredObject, void>(stub as Stub, (object) => {
    object.clock = () => now;
  });
}

/** Changes settings of one object; lasts until the object is evicted. */
export async function setSettings(stub: unknown, changed: Partial<Record<SettingName, number>>): Promise<void> {
  await runInDurableObject<StoredObject, void>(stub as Stub, (object) => {
    object.settings = Object.assign(object.settings, changed);
  });
}

/** Runs SQL in an object's storage. */
export async function runSql(stub: unknown, query: string): Promise<Record<string, SqlStorageValue>[]> {
  return runInDurableObject(stub as Stub, (_object, state) => state.storage.sql.exec(query).toArray());
}

/** Everything an object has stored, as text. */
export async function dumpStorage(stub: unknown): Promise<string> {
  return runInDurableObject(stub as Stub, (_object, state) => {
    const tables = state.storage.sql
      .exec<{ name: string }>("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf%' ESCAPE '\\'")
      .toArray();
    return JSON.stringify(tables.map(({ name }) => [name, state.storage.sql.exec(`SELECT * FROM ${name}`).toArray()]));
  });
}
