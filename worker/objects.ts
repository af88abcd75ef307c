import type { AuditApi } from "../durable-objects/audit-contract.ts";
import type { BackgroundRequestApi } from "../durable-objects/background-contract.ts";
import type { AccountApi, IdentityApi, RegionApi, SigningKeysApi } from "../durable-objects/contract.ts";
import type { Env } from "../durable-objects/env.ts";
import type { SnapshotApi } from "../durable-objects/snapshot-contract.ts";
import type { VmApi } from "../durable-objects/vm-contract.ts";
import { failure, type Result } from "../protocol/failures.ts";
import { regionObjectName } from "../protocol/ids.ts";
import { InFlight } from "./limits/in-flight.ts";
import { logEvent } from "./log.ts";
import { mask } from "./masks.ts";

/** Name of the one object that keeps the ticket keys of the deployment. */
const SIGNING_KEYS_NAME = "ticket-keys";

export function accountObject(env: Env, accountId: string): AccountApi {
  return env.ACCOUNT.getByName(accountId);
}

export function identityObject(env: Env, identityId: string): IdentityApi {
  return env.IDENTITY.getByName(identityId);
}

export function vmObject(env: Env, vmId: string): VmApi {
  return env.VM.getByName(vmId);
}

export function auditObject(env: Env, accountId: string): AuditApi {
  return env.AUDIT.getByName(accountId);
}

export function backgroundRequestObject(env: Env, requestId: string): BackgroundRequestApi {
  return env.BACKGROUND_REQUEST.getByName(requestId);
}

export function snapshotObject(env: Env, snapshotId: string): SnapshotApi {
  return env.SNAPSHOT.getByName(snapshotId);
}

export function signingKeysObject(env: Env): SigningKeysApi {
  return env.SIGNING_KEYS.getByName(SIGNING_KEYS_NAME);
}

/** A region's object by its object name, which service keys carry. */
export function regionObject(env: Env, objectName: string): RegionApi & { fetch(request: Request): Promise<Response> } {
  return env.REGION.getByName(objectName);
}

/** A region's object by the region's name. */
export async function regionNamed(env: Env, region: string): Promise<RegionApi> {
  return regionObject(env, await regionObjectName(region));
}

const AUTHORITY_UNAVAILABLE = failure("authority-unavailable", "The service is briefly unavailable. Try again in a moment.");

/**
 * Calls an object for something that may be asked twice: a passing platform error is tried once more, on a new stub,
 * unless the object is overloaded. `call` must make its stub itself.
 */
export async function ask<T>(call: () => Promise<Result<T>>): Promise<Result<T>> {
  return answered(async () => {
    try {
      return await call();
    } catch (error) {
      if (flag(error, "retryable") && !flag(error, "overloaded")) return await call();
      throw error;
    }
  });
}

/** What one isolate asks of one object at once; see the settings of the same names. */
export interface AskLimits {
  readonly OBJECT_MAX_INFLIGHT: number;
  readonly OBJECT_PATIENCE_MS: number;
}

const inFlight = new InFlight();

/**
 * The same for an object that one credential's holders may all ask at once: over the limit the rest is told at once to come back,
 * instead of waiting in a queue that only grows.
 */
export async function askOne<T>(name: string, limits: AskLimits, call: () => Promise<Result<T>>): Promise<Result<T>> {
  const done = inFlight.enter(name, limits.OBJECT_MAX_INFLIGHT, limits.OBJECT_PATIENCE_MS, Date.now());
  if (done === null) return AUTHORITY_UNAVAILABLE;
  try {
    return await ask(call);
  } finally {
    done();
  }
}

/** Calls an object for a change: once, since nobody knows whether a call that broke was carried out. */
export async function tell<T>(call: () => Promise<Result<T>>): Promise<Result<T>> {
  return answered(call);
}

/**
 * Platform errors become `authority-unavailable`; a bug in an object stays an exception. What is not there is said in one
 * way, whichever object says it.
 */
async function answered<T>(call: () => Promise<Result<T>>): Promise<Result<T>> {
  try {
    return mask(await call());
  } catch (error) {
    if (isApplicationError(error)) throw error;
    logEvent("object-unavailable", { overloaded: flag(error, "overloaded"), retryable: flag(error, "retryable") });
    return AUTHORITY_UNAVAILABLE;
  }
}

/** The runtime marks what an object's own code threw as `remote`, and platform faults by the other flags. */
function isApplicationError(error: unknown): boolean {
  const platform = flag(error, "retryable") || flag(error, "overloaded") || flag(error, "durableObjectReset");
  return flag(error, "remote") && !platform;
}

function flag(error: unknown, name: string): boolean {
  return typeof error === "object" && error !== null && (error as Record<string, unknown>)[name] === true;
}
