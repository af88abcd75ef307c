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
export function pathOf({ method, path }: Endpoint, values: PathValues): string {
  const known: Record<string, string> = { ...values, path: "%2Fetc%2Fmotd" };
  const filled = path.replaceAll(/\{(\w+)\}/g, (_whole, name: string) => known[name] ?? "something");
  if (path.includes("/fs/uploads")) return method === "put" ? `${filled}?offset=0` : filled;
  return path.includes("/fs/") && !path.endsWith("/mkdir") ? `${filled}?path=%2Fetc%2Fmotd` : filled;
}

/** A body that an endpoint accepts. */
export function bodyOf({ method, path }: Endpoint): object | undefined {
  if (method === "get" || method === "delete") return undefined;
  if (path === "/v5/vms/{vmId}/exec-await") return { command: "true" };
  if (path.endsWith("/exec-await")) return { command: "true", terminal: null, timeoutMs: null };
  if (path.endsWith("/systemd/services")) return { name: "web", mode: "service", exec: ["/bin/true"] };
  if (path.includes("/systemd/")) return { services: [{ id: "web" }] };
  if (path.endsWith("/fs/mkdir")) return { path: "/tmp/made" };
  if (path.endsWith("/fs/uploads")) return { path: "/tmp/made", size: 1 };
  if (path.includes("/files/")) return { content: "", encoding: "base64" };
  return path.includes("/permissions/") ? { allowedUsers: null } : {};
}
