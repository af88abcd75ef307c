import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { exportJWK, generateKeyPair, importJWK } from "jose";
import { z } from "zod";
import type { Clock, RandomBytes } from "../protocol/bytes.ts";
import { isFailure } from "../protocol/failures.ts";
import { type EnrolmentAnswer, type EnrolmentRequest, enrolmentAnswer } from "../protocol/service-api.ts";
import { ASSERTION_ALGORITHM, type ServiceId, servicePublicKey, signAssertion } from "../protocol/service-assertion.ts";
import { writeFileAtomically } from "./atomic-file.ts";
import type { Log } from "./log.ts";
import { JoinRefused } from "./membership.ts";
import { pause } from "./pause.ts";
import { readSecretFile, SettingsError } from "./settings.ts";

/** A host's or forwarder's own name and key. */
export interface ServiceCredential {
  readonly serviceId: ServiceId;
  /** A new assertion, good for one request (`protocol/service-assertion.ts`). */
  assertion(): Promise<string>;
}

export interface CredentialOptions {
  /** Folder that keeps the key; nobody but its owner may read it. */
  readonly stateDir: string;
  readonly edgeUrl: string;
  /** File with a join token or a service key. It may be gone once the service is enrolled. */
  readonly secretFile: string;
  readonly applicant: { readonly kind: "host"; readonly hostId: string } | { readonly kind: "forwarder" };
  readonly clock: Clock;
  readonly randomBytes: RandomBytes;
  readonly log: Log;
  /** Longest wait for an answer, and between two tries, in milliseconds. */
  readonly timeoutMs: number;
  readonly retryMs: number;
  /** Aborting gives up. */
  readonly signal?: AbortSignal;
}

const FILE_NAME = "service-key.json";

const keptKey = z.object({
  privateKey: servicePublicKey.extend({ d: z.string().regex(/^[\w-]{43}$/) }),
  /** `nameOf` the secret that enrols it. */
  secret: z.string(),
  /** Null until the edge has answered. */
  enrolment: enrolmentAnswer.nullable(),
});
type KeptKey = z.infer<typeof keptKey>;

/**
 * The service's credential: the one kept in the state folder, or a new one that is enrolled now. Another secret in the file
 * than the one it enrolled with enrols anew: that is how a revoked service comes back. Tries until the edge answers. Rejects
 * with `JoinRefused` when the edge refuses, with `SettingsError` when there is neither a credential nor a secret.
 */
export async function openCredential(options: CredentialOptions): Promise<ServiceCredential> {
  const { stateDir, secretFile, log } = options;
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const path = join(stateDir, FILE_NAME);
  const kept = readKept(path);
  const secret = existsSync(secretFile) ? readSecretFile(secretFile) : null;
  if (kept?.enrolment && (secret === null || nameOf(secret) === kept.secret)) return credentialOf(kept, options);
  if (secret === null) throw new SettingsError(`${secretFile}: there is no join token or service key`);
  try {
    return await credentialOf(await enrolAnew(options, path, secret), options);
  } catch (error) {
    if (!kept?.enrolment || !(error instanceof JoinRefused)) throw error;
    log.warn("the new secret enrols nothing; going on with the key that is enrolled", { reason: error.message });
    return credentialOf(kept, options);
  }
}

/** As what the service of a state folder is enrolled, or null when it is not yet. Throws when its key is damaged. */
export function enrolledAs(stateDir: string): ServiceId | null {
  return readKept(join(stateDir, FILE_NAME))?.enrolment?.serviceId ?? null;
}

async function enrolAnew(options: CredentialOptions, path: string, secret: string): Promise<KeptKey> {
  // The key is kept before it is shown: if the answer gets lost, the same key may ask for it again.
  const pendingPath = `${path}.pending`;
  const known = readKept(pendingPath);
  const pending = known?.secret === nameOf(secret) ? known : await makeKey(nameOf(secret));
  writeFileAtomically(pendingPath, JSON.stringify(pending));
  const answer = await enrol(options, secret, pending);
  const enrolled = { ...pending, enrolment: answer };
  writeFileAtomically(path, JSON.stringify(enrolled));
  rmSync(pendingPath);
  options.log.info("enrolled", { service: answer.serviceId, region: answer.region });
  return enrolled;
}

async function credentialOf(kept: KeptKey, { clock, randomBytes }: CredentialOptions): Promise<ServiceCredential> {
  const key = await importJWK(kept.privateKey, ASSERTION_ALGORITHM);
  if (kept.enrolment === null || key instanceof Uint8Array) throw new Error("the service has no key that is enrolled");
  const { serviceId, issuer } = kept.enrolment;
  return { serviceId, assertion: () => signAssertion({ serviceId, issuer, now: clock(), randomBytes }, key) };
}

async function enrol(options: CredentialOptions, secret: string, { privateKey }: KeptKey): Promise<EnrolmentAnswer> {
  const { applicant, retryMs, log, signal } = options;
  const { kty, crv, x } = privateKey;
  const request: EnrolmentRequest = { ...applicant, publicKey: { kty, crv, x } };
  for (;;) {
    signal?.throwIfAborted();
    const answer = await ask(options, secret, request);
    if (answer !== null) return answer;
    log.warn("not enrolled yet: the edge gave no answer");
    await pause(retryMs, signal);
  }
}

/** One try. Null when trying again may help. */
async function ask(options: CredentialOptions, secret: string, request: EnrolmentRequest): Promise<EnrolmentAnswer | null> {
  const { edgeUrl, timeoutMs, signal } = options;
  const limit = AbortSignal.timeout(timeoutMs);
  let response: Response;
  let body: unknown;
  try {
    response = await fetch(`${edgeUrl}/service/v1/enrolments`, {
      method: "POST",
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify(request),
      redirect: "error",
      signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
    });
    body = await response.json();
  } catch {
    return null;
  }
  if (response.ok) return enrolmentAnswer.safeParse(body).data ?? null;
  if (response.status >= 500 || response.status === 429) return null;
  const reason = isFailure(body) ? body.message : `HTTP ${response.status}`;
  throw new JoinRefused(`the edge refused to enrol this service: ${reason}`);
}

function readKept(path: string): KeptKey | null {
  if (!existsSync(path)) return null;
  const read = keptKey.safeParse(parseJson(readFileSync(path, "utf8")));
  // A new key would be another service; a damaged one is for a person to look at.
  if (!read.success) throw new Error(`${path} does not hold a service's key: delete it to enrol anew`);
  return read.data;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function makeKey(secret: string): Promise<KeptKey> {
  const { privateKey } = await generateKeyPair(ASSERTION_ALGORITHM, { crv: "Ed25519", extractable: true });
  return keptKey.parse({ privateKey: pick(await exportJWK(privateKey)), secret, enrolment: null });
}

function pick({ kty, crv, x, d }: { kty?: string; crv?: string; x?: string; d?: string }) {
  return { kty, crv, x, d };
}

/** Tells secrets apart without keeping them. They are of 120 random bits, so the hash helps nobody to guess. */
function nameOf(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}
