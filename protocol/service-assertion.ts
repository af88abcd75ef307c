import { type CryptoKey, decodeJwt, type JWK, jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { encodeBase32 } from "./base32.ts";
import type { RandomBytes } from "./bytes.ts";
import { ROUTING_LENGTH } from "./ids.ts";

/**
 * How a host or forwarder says who it is: `private_key_jwt` (RFC 7523), a short JWT signed with its own key, shown as
 * bearer of one request. `iss` and `sub` are its service id, `aud` is the deployment's issuer.
 */

/** `typ` of an assertion, so that no other JWT passes as one (RFC 8725 section 3.11). */
export const ASSERTION_TYPE = "postern-service+jwt";

/** The one signature algorithm (RFC 8037); pinned on both sides. */
export const ASSERTION_ALGORITHM = "EdDSA";

/** Longest life of an assertion, in seconds. */
export const ASSERTION_LIFE_S = 60;

/** Clock difference between a service and the edge that is forgiven, in seconds. A used assertion is remembered for longer. */
export const ASSERTION_CLOCK_TOLERANCE_S = 60;

/** A service id: object name of its region, a hyphen, a row id. The first part routes, as a credential's does; a hint. */
export type ServiceId = `${string}-${string}`;

export function serviceIdOf(regionObjectName: string, rowId: string): ServiceId {
  return `${regionObjectName}-${rowId}`;
}

export function isServiceId(text: string): text is ServiceId {
  return /^[a-z2-7]{16}-[a-z2-7]{16}$/.test(text);
}

/** Object name of the region that a service id names. */
export function regionOfService(serviceId: ServiceId): string {
  return serviceId.slice(0, ROUTING_LENGTH);
}

/** A service's public key (RFC 8037 section 2). */
export const servicePublicKey = z.strictObject({
  kty: z.literal("OKP"),
  crv: z.literal("Ed25519"),
  x: z.string().regex(/^[\w-]{43}$/, "must be 32 bytes in base64url"),
});
export type ServicePublicKey = z.infer<typeof servicePublicKey>;

export interface AssertionOptions {
  readonly serviceId: ServiceId;
  /** The deployment's issuer. */
  readonly issuer: string;
  /** Milliseconds since 1970 UTC. */
  readonly now: number;
  readonly randomBytes: RandomBytes;
}

/** Makes an assertion for one request. `key`: the service's private key. */
export function signAssertion({ serviceId, issuer, now, randomBytes }: AssertionOptions, key: CryptoKey): Promise<string> {
  const iat = Math.floor(now / 1000);
  return new SignJWT({ iss: serviceId, sub: serviceId, aud: issuer, jti: encodeBase32(randomBytes(15)) })
    .setProtectedHeader({ alg: ASSERTION_ALGORITHM, typ: ASSERTION_TYPE })
    .setIssuedAt(iat)
    .setExpirationTime(iat + ASSERTION_LIFE_S)
    .sign(key);
}

/** The service that an assertion names, unverified: it says whose key to verify with. Null when it names none. */
export function claimedService(assertion: string): ServiceId | null {
  try {
    const { sub } = decodeJwt(assertion);
    return sub !== undefined && isServiceId(sub) ? sub : null;
  } catch {
    return null;
  }
}

const assertionClaims = z.object({ jti: z.string().min(16).max(64), iat: z.int(), exp: z.int() });

/**
 * Verifies everything about an assertion that needs no memory. Answers its `jti` and how long it must be remembered so that it
 * is used once only (seconds since 1970 UTC), or null when it does not hold.
 */
export async function checkAssertion(
  assertion: string,
  expected: { readonly serviceId: ServiceId; readonly publicKey: JWK; readonly issuer: string; readonly now: number },
): Promise<{ readonly jti: string; readonly until: number } | null> {
  const { serviceId, publicKey, issuer, now } = expected;
  try {
    const { payload } = await jwtVerify(assertion, publicKey, {
      algorithms: [ASSERTION_ALGORITHM],
      typ: ASSERTION_TYPE,
      issuer: serviceId,
      subject: serviceId,
      audience: issuer,
      clockTolerance: ASSERTION_CLOCK_TOLERANCE_S,
      currentDate: new Date(now),
    });
    const { jti, iat, exp } = assertionClaims.parse(payload);
    if (exp - iat > ASSERTION_LIFE_S || iat > now / 1000 + ASSERTION_CLOCK_TOLERANCE_S) return null;
    return { jti, until: exp + ASSERTION_CLOCK_TOLERANCE_S };
  } catch {
    // Every way in which jose or zod refuse comes to the same: the log of the edge says that it was refused.
    return null;
  }
}
