import { type CryptoKey, decodeProtectedHeader, errors, type JWTVerifyGetKey, jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { isVmId } from "./ids.ts";
import { IMAGE_USER, isLinuxUser } from "./linux-user.ts";
import { mayActAsImageUser, OPERATIONS } from "./operations.ts";
import { isPrincipal, type Subject, tenantSubject, vmSubject } from "./subjects.ts";

/** `typ` of a ticket (RFC 8725 section 3.11: explicit typing keeps other JWTs from passing as one). */
export const TICKET_TYPE = "postern-ticket+jwt";

/** The one signature algorithm (RFC 8037); pinned on both sides, never read from the ticket. */
export const TICKET_ALGORITHM = "EdDSA";

/** Longest life of a ticket, in seconds. Verifiers refuse a ticket that claims more. */
export const MAX_TICKET_LIFE_S = 60;

/** Clock difference between edge and verifier that is forgiven, in seconds. */
export const CLOCK_TOLERANCE_S = 5;

/** `cred` of a ticket for a visitor of a port that the owner of the VM opened to everybody. */
export const PUBLIC_CREDENTIAL = "public";

/** `aud` of a ticket for one host. */
export function hostAudience(hostId: string): string {
  return `host:${hostId}`;
}

/** `aud` of a ticket that any forwarder of one region may take. */
export function forwarderAudience(region: string): string {
  return `forwarder:${region}`;
}

const claims = z.object({
  iss: z.string(),
  aud: z.array(z.string()).min(1),
  /** Whose verdict this is; floors are kept per subject. */
  sub: z.custom<Subject>(isPrincipal),
  jti: z.string().min(16).max(64),
  vm: z.string().refine(isVmId),
  /** Linux user to act as, `IMAGE_USER`, or `null` for operations on the machine itself. */
  user: z.union([z.string().refine(isLinuxUser), z.literal(IMAGE_USER)]).nullable(),
  op: z.enum(OPERATIONS),
  /** The subject's epoch when its object was read. */
  epoch: z.int().nonnegative(),
  /** Epochs of the owning account as a tenant and of the VM; absent: 0, which no floor of either admits. */
  acct_epoch: z.int().nonnegative().optional(),
  vm_epoch: z.int().nonnegative().optional(),
  /** When what the ticket hangs on was read, the oldest of it, seconds since 1970 UTC. */
  read_at: z.int().nonnegative(),
  iat: z.int(),
  exp: z.int(),
  /** Who carries the ticket: a ticket in a client's hands is single-use, the others may be reused until `exp`. */
  azp: z.union([
    z.literal("edge"),
    z.literal("client"),
    z.custom<`forwarder:${string}`>((v) => typeof v === "string" && v.startsWith("forwarder:")),
  ]),
  /** Base URL of the VM's host, so that a forwarder that is shown a ticket needs no look-up to find it. */
  host_url: z.url(),
  /** Id of the access token or API key behind the verdict, for audit and for listing sessions. Not a secret. */
  cred: z.string().max(64),
  /** When that ends by itself, and sessions that the ticket began with it, seconds since 1970 UTC; absent: never. */
  cred_exp: z.int().optional(),
  /** Id of the account that owns the VM, for listing sessions. */
  acct: z.string().max(32).optional(),
  /** RFC 7800: the only SSH key that may use the ticket, as an OpenSSH `SHA256:` fingerprint. */
  cnf: z.object({ ssh: z.string() }).optional(),
});

const ticketClaims = claims.refine(({ user, op }) => user !== IMAGE_USER || mayActAsImageUser(op));

/** What a ticket says. Times in seconds since 1970 UTC. */
export type TicketClaims = z.infer<typeof ticketClaims>;

/** Everything that a ticket hangs on, each with the epoch at which it was read. */
export function subjectsOf(
  claims: Pick<TicketClaims, "sub" | "epoch" | "vm" | "vm_epoch" | "acct" | "acct_epoch">,
): Map<Subject, number> {
  const subjects = new Map<Subject, number>([
    [claims.sub, claims.epoch],
    [vmSubject(claims.vm), claims.vm_epoch ?? 0],
  ]);
  if (claims.acct !== undefined) subjects.set(tenantSubject(claims.acct), claims.acct_epoch ?? 0);
  return subjects;
}

/** Signs claims as a compact JWS. `key` must be an Ed25519 private key; `kid` names it in the JWKS. */
export async function signTicket(claims: TicketClaims, key: CryptoKey, kid: string): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ alg: TICKET_ALGORITHM, typ: TICKET_TYPE, kid }).sign(key);
}

/** Why a ticket was refused; goes to the log of whoever refused it, never to the one who showed it. */
export type TicketRefusal =
  | "malformed"
  | "type"
  | "algorithm"
  | "unknown-key"
  | "voided-key"
  | "signature"
  | "claims"
  | "issuer"
  | "audience"
  | "expired"
  | "not-yet-valid"
  | "lifetime"
  | "stale-epoch"
  | "stale-authority"
  | "replayed"
  | "keys-unavailable";

export type CheckedTicket =
  | { readonly ok: true; readonly claims: TicketClaims }
  | { readonly ok: false; readonly reason: TicketRefusal };

export interface TicketExpectations {
  readonly getKey: JWTVerifyGetKey;
  readonly issuer: string;
  /** The audience that the ticket must name, for example `host:abc`. */
  readonly audience: string;
  /** Milliseconds since 1970 UTC. */
  readonly now: number;
}

/**
 * Verifies everything about a ticket that needs no memory: signature, `typ`, `alg`, `iss`, `aud`, times, and the form of
 * every claim (RFC 8725). Floors and replay are `TicketVerifier`'s part.
 */
export async function checkTicket(ticket: string, expected: TicketExpectations): Promise<CheckedTicket> {
  const header = readHeader(ticket);
  if (header === null) return refuse("malformed");
  if (header.typ !== TICKET_TYPE) return refuse("type");
  if (header.alg !== TICKET_ALGORITHM) return refuse("algorithm");
  let payload: unknown;
  try {
    const verified = await jwtVerify(ticket, expected.getKey, {
      algorithms: [TICKET_ALGORITHM],
      typ: TICKET_TYPE,
      issuer: expected.issuer,
      audience: expected.audience,
      clockTolerance: CLOCK_TOLERANCE_S,
      currentDate: new Date(expected.now),
      requiredClaims: ["exp", "iat", "sub", "jti"],
    });
    payload = verified.payload;
  } catch (error) {
    return refuse(classifyJoseError(error));
  }
  const claims = ticketClaims.safeParse(payload);
  if (!claims.success) return refuse("claims");
  if (claims.data.iat * 1000 > expected.now + CLOCK_TOLERANCE_S * 1000) return refuse("not-yet-valid");
  if (claims.data.exp - claims.data.iat > MAX_TICKET_LIFE_S) return refuse("lifetime");
  return { ok: true, claims: claims.data };
}

/** Id of the key that a ticket names, unverified; null when it names none. */
export function ticketKeyId(ticket: string): string | null {
  return readHeader(ticket)?.kid ?? null;
}

function readHeader(ticket: string): { typ?: string | undefined; alg?: string | undefined; kid?: string | undefined } | null {
  try {
    return decodeProtectedHeader(ticket);
  } catch {
    return null;
  }
}

function refuse(reason: TicketRefusal): CheckedTicket {
  return { ok: false, reason };
}

function classifyJoseError(error: unknown): TicketRefusal {
  if (error instanceof errors.JWTExpired) return "expired";
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === "iss") return "issuer";
    if (error.claim === "aud") return "audience";
    if (error.claim === "nbf") return "not-yet-valid";
    return "claims";
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return "signature";
  if (error instanceof errors.JWKSNoMatchingKey) return "unknown-key";
  if (error instanceof errors.JOSEAlgNotAllowed) return "algorithm";
  if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid) return "malformed";
  return "keys-unavailable";
}
