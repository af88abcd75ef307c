import { generateKeyPair } from "jose";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import type { EnrolmentRequest } from "../../protocol/service-api.ts";
import { type AssertionOptions, type ServicePublicKey, servicePublicKey, signAssertion } from "../../protocol/service-assertion.ts";
import { localRegion, must, secretHashOf } from "./objects.ts";

export type Applicant = { readonly kind: "host"; readonly hostId: string } | { readonly kind: "forwarder" };

/** A key pair of a service that is not enrolled yet. */
export async function newServiceKeys() {
  const { publicKey, privateKey } = await generateKeyPair("EdDSA", { crv: "Ed25519" });
  const { kty, crv, x } = (await crypto.subtle.exportKey("jwk", publicKey)) as JsonWebKey;
  return { publicKey: servicePublicKey.parse({ kty, crv, x }), privateKey };
}

/** A service key of the region. */
export async function newServiceKey() {
  return must(await (await localRegion()).createServiceKey("local", "test"));
}

/** A join token of the region, for a host only if its id is named. */
export async function newJoinToken(kind: Applicant["kind"], hostId: string | null = null, lifeMs = 60_000) {
  return must(await (await localRegion()).createJoinToken("local", { kind, hostId, name: "test", lifeMs }));
}

/** Asks the region to enrol a key by a join token or service key. */
export async function enrol(secret: string, applicant: Applicant, publicKey: ServicePublicKey) {
  const request: EnrolmentRequest = { ...applicant, publicKey };
  return (await localRegion()).enrol(await secretHashOf(secret), request);
}

/** An enrolled service, by a join token of its own. A host takes the place of the one that had its id. */
export async function newService(applicant: Applicant) {
  const { publicKey, privateKey } = await newServiceKeys();
  const token = await newJoinToken(applicant.kind, applicant.kind === "host" ? applicant.hostId : null);
  const { serviceId, issuer } = must(await enrol(token.joinToken, applicant, publicKey));
  const assertion = (changes: Partial<AssertionOptions> = {}) =>
    signAssertion({ serviceId, issuer, now: Date.now(), randomBytes: platformRandomBytes, ...changes }, privateKey);
  return { serviceId, publicKey, privateKey, assertion, ...token };
}
