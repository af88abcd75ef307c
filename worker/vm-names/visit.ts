import type { PublicPort } from "../../protocol/host-api.ts";
import { DEFAULT_GUEST_PORT } from "../../protocol/vm-names.ts";

/** One request to a VM's name. */
export interface Visit {
  readonly request: Request;
  readonly url: URL;
  readonly vmId: string;
  /** The port that the name names; null: it names none. */
  readonly namedPort: number | null;
  /** Whether the visitor came over TLS, here or at a proxy in front. */
  readonly isSecure: boolean;
}

/** The port of the guest that a visit is to, and whether its owner opened it to everybody. */
export function guestPort(
  { url, namedPort }: Pick<Visit, "url" | "namedPort">,
  ports: readonly PublicPort[],
): {
  readonly port: number;
  readonly isPublic: boolean;
} {
  if (namedPort !== null) return { port: namedPort, isPublic: ports.some(({ targetPort }) => targetPort === namedPort) };
  const outside = url.port === "8081" ? 8081 : 443;
  const mapped = ports.find(({ port }) => port === outside);
  return { port: mapped?.targetPort ?? DEFAULT_GUEST_PORT, isPublic: mapped !== undefined };
}

/** Whether a visitor came over TLS; a proxy that ended it says so. */
export function cameOverTls(url: URL, headers: Headers): boolean {
  return url.protocol === "https:" || headers.get("x-forwarded-proto")?.split(",")[0]?.trim().toLowerCase() === "https";
}
