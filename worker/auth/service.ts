import type { ServiceStanding } from "../../durable-objects/service-contract.ts";
import { readRegions } from "../../durable-objects/settings.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { regionObjectName } from "../../protocol/ids.ts";
import type { ServiceKind } from "../../protocol/service-api.ts";
import { claimedService, regionOfService } from "../../protocol/service-assertion.ts";
import type { Credential } from "../../protocol/tokens.ts";
import type { Edge } from "../edge.ts";
import { regionObject, tell } from "../objects.ts";
import { authenticate } from "./authenticate.ts";
import { readPresented } from "./presented.ts";

/** A host or forwarder, by the assertion it showed, and the object of its region. */
export interface ServicePrincipal extends ServiceStanding {
  readonly regionObjectName: string;
}

/**
 * Its own kind, not `credential-invalid`: a forwarder sends a person's token too, and must not tell the person that the
 * token is wrong when it is the forwarder's own standing that does not hold.
 */
export const SERVICE_REFUSED = failure(
  "service-key-refused",
  "This service is not known here: enrol it with a join token, or it was revoked.",
);

/**
 * Authenticates a host or forwarder by an assertion of its own, which is used up. Anything else, a service key too, is
 * `service-key-refused`; so is a service of another kind than `wanted`.
 */
export async function authenticateService(
  edge: Edge,
  headers: Headers,
  wanted: ServiceKind | null = null,
): Promise<Result<ServicePrincipal>> {
  const presented = readPresented(headers);
  if (presented?.from !== "bearer") return SERVICE_REFUSED;
  const serviceId = claimedService(presented.text);
  if (serviceId === null) return SERVICE_REFUSED;
  const regionName = regionOfService(serviceId);
  // A stranger's assertion may name any object: only those of this deployment's regions are woken for it.
  if (!(await isOfThisDeployment(edge, regionName))) return SERVICE_REFUSED;
  // Once: an assertion is used up by the asking, so nobody may ask twice.
  const standing = await tell(() => regionObject(edge.env, regionName).checkService(presented.text));
  if (!standing.ok) return refused(standing);
  if (wanted !== null && standing.value.kind !== wanted) return SERVICE_REFUSED;
  return success({ ...standing.value, regionObjectName: regionName });
}

/** What a host or forwarder enrols with: a join token or a service key. Whether it is live is for the region to say. */
export async function authenticateEnroller(edge: Edge, headers: Headers): Promise<Result<Credential>> {
  const credential = await authenticate(edge, headers);
  if (!credential.ok) return refused(credential);
  return credential.value.kind === "service-key" ? credential : ENROLLER_REFUSED;
}

export const ENROLLER_REFUSED = failure(
  "service-key-refused",
  "This join token or service key is not valid: it is unknown, expired, used or revoked. Ask the operator for a new one.",
);

/** An authority that cannot be asked stays that; every other refusal becomes the one about the service. */
function refused<T>(result: Result<T>): Result<never> {
  if (!result.ok && result.failure.kind === "authority-unavailable") return result;
  return SERVICE_REFUSED;
}

async function isOfThisDeployment(edge: Edge, objectName: string): Promise<boolean> {
  for (const region of readRegions(edge.env.REGIONS)) {
    if ((await regionObjectName(region)) === objectName) return true;
  }
  return false;
}
