import type { AccountStanding, Verdict, VerdictQuestion } from "../../durable-objects/contract.ts";
import type { Placement, Tenancy } from "../../durable-objects/vm-contract.ts";
import { type FailureKind, type Result, success } from "../../protocol/failures.ts";
import { accountSubject } from "../../protocol/subjects.ts";
import type { Credential } from "../../protocol/tokens.ts";
import { caches, lookupOf, refusalLimitsOf } from "../cache/edge-caches.ts";
import type { FactCache, Found } from "../cache/facts.ts";
import type { Fact } from "../cache/freshness.ts";
import type { Edge } from "../edge.ts";
import { accountObject, ask, askOne, identityObject, vmObject } from "../objects.ts";

/**
 * What the edge knows about a request that it forwards, from the nearest level that may say it. Every look-up notes in the
 * request's timing which level that was. `refused`: what a verifier refused; then the object itself is asked.
 */

/** At hand when this isolate knows it: a promise for each of the few things a request asks would cost as much as the rest of it. */
type Soon<T> = T | Promise<T>;

/** Refusals that are repeated for a moment. The rest passes by itself or costs the object nothing. */
const REPEATED: ReadonlySet<FailureKind> = new Set(["credential-invalid", "vm-not-found", "linux-user-forbidden", "forbidden"]);

/** The verdict of an access token. */
export async function tokenVerdict(
  edge: Edge,
  { routing, secretHash }: Credential,
  question: VerdictQuestion,
  refused: Verdict | null,
): Promise<Result<Verdict>> {
  const asked = `${secretHash} ${question.vmId} ${question.operation} ${question.linuxUser ?? "-"}`;
  if (refused === null && caches.refusals.mayKnow(routing)) {
    const known = await caches.refusals.find(routing, asked, refusalLimitsOf(edge));
    if (known !== null) return { ok: false, failure: known };
  }
  const key = `${routing} ${asked}`;
  const young = refused === null ? youngFact(edge, "verdict", caches.verdicts, key) : null;
  if (young !== null) return success(young);
  const askedAt = edge.clock();
  const read = () => askOne(routing, edge.settings, () => identityObject(edge.env, routing).verdict(secretHash, question));
  const verdict = await find(edge, { step: "verdict", cache: caches.verdicts, key, read }, refused);
  if (!verdict.ok && REPEATED.has(verdict.failure.kind)) {
    caches.refusals.enter(routing, asked, { failure: verdict.failure, askedAt }, refusalLimitsOf(edge));
  }
  return verdict;
}

/** The standing of an API key. */
export function keyStanding(
  edge: Edge,
  { routing, secretHash }: Credential,
  refused: AccountStanding | null,
): Soon<Result<AccountStanding>> {
  const read = () => ask(() => accountObject(edge.env, routing).checkKey(secretHash));
  return find(edge, { step: "verdict", cache: caches.keys, key: `${routing} ${secretHash}`, read }, refused);
}

/** The verdict that an API key's standing makes. That the VM is the account's, its placement says. */
export function keyVerdict({ accountId, keyId, epoch, readAt }: AccountStanding, question: VerdictQuestion): Verdict {
  return {
    subject: accountSubject(accountId),
    accountId,
    credentialId: keyId,
    ...question,
    epoch,
    readAt,
    expiresAt: null,
    grant: null,
  };
}

export function tenancyOf(edge: Edge, accountId: string, refused: Tenancy | null): Soon<Result<Tenancy>> {
  const young = refused === null ? youngFact(edge, "tenancy", caches.tenancies, accountId) : null;
  if (young !== null) return success(young);
  const read = () => ask(() => accountObject(edge.env, accountId).tenancy());
  return find(edge, { step: "tenancy", cache: caches.tenancies, key: accountId, read }, refused);
}

export function placementOf(edge: Edge, vmId: string, refused: Placement | null): Soon<Result<Placement>> {
  const young = refused === null ? youngFact(edge, "placement", caches.placements, vmId) : null;
  if (young !== null) return success(young);
  const read = () => ask(() => vmObject(edge.env, vmId).placement());
  return find(edge, { step: "placement", cache: caches.placements, key: vmId, read }, refused);
}

/** Something about an identity or an account was widened here: what was refused before is asked again. */
export async function widened(edge: Edge, objectName: string): Promise<void> {
  await caches.refusals.widen(objectName, refusalLimitsOf(edge));
}

/** What this isolate knows and need not read again yet: nearly every look-up ends here, and needs nothing of what the others do. */
function youngFact<T extends Fact>(edge: Edge, step: string, cache: FactCache<T>, key: string): T | null {
  const { VERDICT_MAX_AGE_MS: maxAgeMs, VERDICT_REFRESH_AGE_MS: refreshAgeMs } = edge.settings;
  const fact = cache.young(key, edge.clock(), Math.min(maxAgeMs, refreshAgeMs));
  if (fact !== null) edge.timing.addInstant(step, "isolate");
  return fact;
}

/** One look-up of a request. */
interface Sought<T extends Fact> {
  /** Its name in the request's timing. */
  readonly step: string;
  readonly cache: FactCache<T>;
  readonly key: string;
  /** Asks the object. */
  readonly read: () => Promise<Result<T>>;
}

function find<T extends Fact>(edge: Edge, sought: Sought<T>, refused: T | null): Soon<Result<T>> {
  const { step, cache, key, read } = sought;
  const near = refused === null ? cache.near(key, lookupOf(edge), read) : null;
  if (near === null) return findBeyond(edge, sought, refused);
  edge.timing.addInstant(step, "isolate");
  return success(near);
}

async function findBeyond<T extends Fact>(
  edge: Edge,
  { step, cache, key, read }: Sought<T>,
  refused: T | null,
): Promise<Result<T>> {
  const lookup = lookupOf(edge);
  const startedAt = edge.timing.now();
  const { result, level }: Found<T> =
    refused === null ? await cache.find(key, lookup, read) : await cache.reread(key, refused, lookup, read);
  edge.timing.add(step, startedAt, level);
  return result;
}
