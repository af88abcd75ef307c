import type { ServiceStanding } from "../../durable-objects/contract.ts";
import { type Result, success } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { CREDENTIAL_INVALID } from "../masks.ts";
import { ask, regionObject } from "../objects.ts";
import { authenticate } from "./authenticate.ts";

/** A host or forwarder, by the service key it showed, and the object of its region. */
export interface ServicePrincipal extends ServiceStanding {
  readonly regionObjectName: string;
}

/** Authenticates a host or forwarder. Only a live service key will do. */
export async function authenticateService(edge: Edge, headers: Headers): Promise<Result<ServicePrincipal>> {
  const credential = await authenticate(edge, headers);
  if (!credential.ok) return credential;
  const { kind, routing, secretHash } = credential.value;
  if (kind !== "service-key") return CREDENTIAL_INVALID;
  const standing = await ask(() => regionObject(edge.env, routing).checkServiceKey(secretHash));
  return standing.ok ? success({ ...standing.value, regionObjectName: routing }) : standing;
}
