import { generateKeyPair } from "jose";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import type { EnrolmentAnswer } from "../../../protocol/service-api.ts";
import { type ServiceId, servicePublicKey, signAssertion } from "../../../protocol/service-assertion.ts";
import { must } from "./world.ts";

/** A host or forwarder that is enrolled at the edge. */
export interface TestService {
  readonly serviceId: ServiceId;
  /** A new assertion: the bearer of one request. */
  assertion(): Promise<string>;
}

/** Enrols with a service key or join token, as `service/credential.ts` does. */
export async function enrolService(
  secret: string,
  applicant: { readonly kind: "host"; readonly hostId: string } | { readonly kind: "forwarder" },
): Promise<TestService> {
  const { publicKey, privateKey } = await generateKeyPair("EdDSA", { crv: "Ed25519" });
  const { kty, crv, x } = (await crypto.subtle.exportKey("jwk", publicKey)) as JsonWebKey;
  const { serviceId, issuer } = await must<EnrolmentAnswer>("/service/v1/enrolments", {
    method: "POST",
    key: secret,
    body: { ...applicant, publicKey: servicePublicKey.parse({ kty, crv, x }) },
  });
  const options = { serviceId, issuer, randomBytes: platformRandomBytes };
  return { serviceId, assertion: () => signAssertion({ ...options, now: Date.now() }, privateKey) };
}
