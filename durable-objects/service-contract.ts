import type { Result } from "../protocol/failures.ts";
import type { EnrolmentAnswer, EnrolmentRequest, ServiceKind } from "../protocol/service-api.ts";
import type { ServiceId } from "../protocol/service-assertion.ts";
import type { Page } from "./contract.ts";

/** What a host's or forwarder's assertion resolves to. */
export interface ServiceStanding {
  readonly serviceId: ServiceId;
  readonly region: string;
  readonly kind: ServiceKind;
  /** A host's id, which alone it may speak for; null for a forwarder. */
  readonly hostId: string | null;
}

/** A join token to make: for one service of a kind and, if `hostId` is set, for that host only. */
export interface JoinTokenWish {
  readonly kind: ServiceKind;
  readonly hostId: string | null;
  readonly name: string | null;
  /** Milliseconds. */
  readonly lifeMs: number;
}

export interface ServiceRow {
  readonly id: ServiceId;
  readonly kind: ServiceKind;
  readonly hostId: string | null;
  /** The name of what it enrolled with. */
  readonly name: string | null;
  /** Id of the join token or service key that it enrolled with. */
  readonly enrolledBy: string;
  readonly createdAt: number;
}

/** A region's hosts and forwarders, and what they enrol with. Part of `RegionApi`. */
export interface RegionServicesApi {
  /** A key that may enrol any number of services. */
  createServiceKey(region: string, name: string | null): Promise<Result<{ keyId: string; serviceKey: string }>>;
  /** Revokes everything that enrolled with it too. */
  revokeServiceKey(keyId: string): Promise<Result<null>>;
  createJoinToken(region: string, wish: JoinTokenWish): Promise<Result<{ tokenId: string; joinToken: string; expiresAt: number }>>;
  revokeJoinToken(tokenId: string): Promise<Result<null>>;
  /** Takes a service's public key by a join token or service key. Idempotent for the same key and bearer. */
  enrol(secretHash: string, request: EnrolmentRequest): Promise<Result<EnrolmentAnswer>>;
  listServices(page: Page): Promise<Result<{ services: readonly ServiceRow[]; total: number }>>;
  /** Cuts its feed at once; every later request of it is refused. */
  revokeService(serviceId: string): Promise<Result<null>>;
  /** Who an assertion is of, and uses it up; `credential-invalid` whatever is wrong with it. */
  checkService(assertion: string): Promise<Result<ServiceStanding>>;
}
