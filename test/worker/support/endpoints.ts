import type { Endpoint } from "../../../worker/dialects/endpoint.ts";
import { v1Endpoints } from "../../../worker/dialects/v1/index.ts";
import { v5Endpoints } from "../../../worker/dialects/v5/index.ts";

/** Every endpoint of every dialect, named for a test's title. */
export const everyEndpoint = [...v1Endpoints, ...v5Endpoints].map((endpoint) => ({
  name: `${endpoint.method.toUpperCase()} ${endpoint.path}`,
  endpoint,
}));

export const accountEndpoints = everyEndpoint.filter(({ endpoint }) => endpoint.admission.access === "account");
export const vmEndpoints = everyEndpoint.filter(({ endpoint }) => endpoint.admission.access === "vm");

export interface PathValues {
  readonly vmId: string;
  readonly identityId: string;
  readonly tokenId: string;
}

/** A path that an endpoint serves. */
export function pathOf({ path }: Endpoint, values: PathValues): string {
  const known: Record<string, string> = { ...values, path: "%2Fetc%2Fmotd" };
  return path.replaceAll(/\{(\w+)\}/g, (_whole, name: string) => known[name] ?? "something");
}

/** A body that an endpoint accepts. */
export function bodyOf({ method, path }: Endpoint): object | undefined {
  if (method === "get" || method === "delete") return undefined;
  if (path === "/v5/vms/{vmId}/exec-await") return { command: "true" };
  if (path.endsWith("/exec-await")) return { command: "true", terminal: null, timeoutMs: null };
  if (path.includes("/files/")) return { content: "", encoding: "base64" };
  return path.includes("/permissions/") ? { allowedUsers: null } : {};
}
