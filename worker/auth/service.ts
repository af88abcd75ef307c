import type { ServiceStanding } from "../../durable-objects/contract.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { ask, regionObject } from "../objects.ts";
import { authenticate } from "./authenticate.ts";

/** A host or forwarder, by the service key it showed, and the object of its region. */
export interface ServicePrincipal extends ServiceStanding {
  readonly regionObjectName: string;
}

/**
 * Its own kind, not `credential-invalid`: a forwarder sends a person's token too, and must not tell the person that the
 * token is wrong when it is the forwarder's key that does not hold.
 */
const SERVICE_KEY_REFUSED = failure("service-key-refused", "This service key is not valid: it is unknown or revoked.");

/** Authenticates a host or forwarder. Only a live service key will do; anything else is `service-key-refused`. */
export async function authenticateService(edge: Edge, headers: Headers): Promise<Result<ServicePrincipal>> {
  const credential = await authenticate(edge, headers);
  if (!credential.ok) return refused(credential);
  const { kind, routing, secretHash } = credential.value;
  if (kind !== "service-key") return SERVICE_KEY_REFUSED;
  const standing = await ask(() => regionObject(edge.env, routing).checkServiceKey(secretHash));
  return standing.ok ? success({ ...standing.value, regionObjectName: routing }) : refused(standing);
}

/** An authority that cannot be asked stays that; every other refusal becomes the one about the service key. */
function refused<T>(result: Result<T>): Result<never> {
  if (!result.ok && result.failure.kind === "authority-unavailable") return result;
  return SERVICE_KEY_REFUSED;
}
