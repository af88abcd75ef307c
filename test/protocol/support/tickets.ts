import { type CryptoKey, createLocalJWKSet, exportJWK, generateKeyPair, type JWTVerifyGetKey } from "jose";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import { newObjectName } from "../../../protocol/ids.ts";
import { identitySubject } from "../../../protocol/subjects.ts";
import { signTicket, type TicketClaims } from "../../../protocol/ticket.ts";

export const ISSUER = "https://edge.test";
export const AUDIENCE = "host:hosthosthosthost";
export const KEY_ID = "key-1";
/** A moment in milliseconds at which `claimsAt` tickets are good. */
export const NOW = 1_800_000_000_000;

export interface Signer {
  readonly privateKey: CryptoKey;
  readonly getKey: JWTVerifyGetKey;
}

export async function newSigner(): Promise<Signer> {
  const pair = await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true });
  const jwk = { ...(await exportJWK(pair.publicKey)), kid: KEY_ID, alg: "EdDSA" };
  return { privateKey: pair.privateKey, getKey: createLocalJWKSet({ keys: [jwk] }) };
}

/** Claims of a good ticket at `NOW`. */
export function goodClaims(changes: Partial<TicketClaims> = {}): TicketClaims {
  const now = NOW / 1000;
  return {
    iss: ISSUER,
    aud: [AUDIENCE, "forwarder:eu"],
    sub: identitySubject("a".repeat(16)),
    jti: newObjectName(platformRandomBytes),
    vm: "v".repeat(20),
    user: "root",
    op: "ssh",
    epoch: 3,
    read_at: now,
    iat: now,
    exp: now + 60,
    azp: "edge",
    host_url: "https://host.test",
    cred: "c".repeat(16),
    ...changes,
  };
}

export function sign(signer: Signer, changes: Partial<TicketClaims> = {}): Promise<string> {
  return signTicket(goodClaims(changes), signer.privateKey, KEY_ID);
}
