import { generateKeyPair } from "jose";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { newRowId } from "../../protocol/ids.ts";
import { type EnrolmentAnswer, enrolmentRequest } from "../../protocol/service-api.ts";
import {
  checkAssertion,
  claimedService,
  type ServiceId,
  type ServicePublicKey,
  serviceIdOf,
  servicePublicKey,
  signAssertion,
} from "../../protocol/service-assertion.ts";
import type { ServiceCredential } from "../../service/credential.ts";

const REGION_OBJECT = "r".repeat(16);

/** The part of a test's edge that knows services by their keys: whoever shows the one secret is enrolled. */
export class EnrolmentDesk {
  readonly #secret: string;
  readonly #issuer: string;
  readonly #region: string;
  readonly #keys = new Map<ServiceId, ServicePublicKey>();
  readonly #used = new Set<string>();
  /** Requests for enrolment, whatever came of them. */
  asked = 0;

  constructor(secret: string, issuer: string, region: string) {
    this.#secret = secret;
    this.#issuer = issuer;
    this.#region = region;
  }

  enrol(authorization: string | undefined, body: unknown): Result<EnrolmentAnswer> {
    this.asked += 1;
    if (authorization !== `Bearer ${this.#secret}`) return failure("service-key-refused", "This secret enrols nobody.");
    return success(this.#add(enrolmentRequest.parse(body).publicKey));
  }

  /** A credential that is enrolled without a request. */
  async credential(): Promise<ServiceCredential> {
    const { publicKey, privateKey } = await generateKeyPair("EdDSA", { crv: "Ed25519" });
    const { kty, crv, x } = await crypto.subtle.exportKey("jwk", publicKey);
    const { serviceId } = this.#add(servicePublicKey.parse({ kty, crv, x }));
    const options = { serviceId, issuer: this.#issuer, randomBytes: platformRandomBytes };
    return { serviceId, assertion: () => signAssertion({ ...options, now: Date.now() }, privateKey) };
  }

  /** Whether a request shows an assertion of an enrolled service that was not shown before. */
  async admits(authorization: string | undefined): Promise<boolean> {
    const assertion = authorization?.replace(/^Bearer /, "") ?? "";
    const serviceId = claimedService(assertion);
    const publicKey = serviceId === null ? undefined : this.#keys.get(serviceId);
    if (serviceId === null || publicKey === undefined) return false;
    const checked = await checkAssertion(assertion, { serviceId, publicKey, issuer: this.#issuer, now: Date.now() });
    if (checked === null || this.#used.has(checked.jti)) return false;
    this.#used.add(checked.jti);
    return true;
  }

  /** Forgets every service. */
  revokeAll(): void {
    this.#keys.clear();
  }

  #add(publicKey: ServicePublicKey): EnrolmentAnswer {
    const serviceId = serviceIdOf(REGION_OBJECT, newRowId(platformRandomBytes));
    this.#keys.set(serviceId, publicKey);
    return { serviceId, region: this.#region, issuer: this.#issuer };
  }
}
