import { isObjectName, isVmId } from "../../protocol/ids.ts";
import { isLinuxUser } from "../../protocol/linux-user.ts";
import type { Operation } from "../../protocol/operations.ts";
import { isSlug } from "../../protocol/slug.ts";
import type { Admission, Endpoint } from "../dialects/endpoint.ts";
import { Pending } from "../services/background.ts";
import type { Attempt } from "./attempt.ts";
import type { Deed, Recording } from "./record.ts";

/** What happens inside a VM all the time; the rest changes what there is or who may use it. */
const IN_GUEST: ReadonlySet<Operation> = new Set(["read", "exec", "files", "terminal", "services", "ssh", "http"]);

/** What calling an endpoint is to the audit trail. */
export function deedOf({ method, path, admission }: Endpoint): Deed {
  return { operation: `${method.toUpperCase()} ${path}`, recording: recordingOf(method, admission) };
}

function recordingOf(method: string, admission: Admission): Recording {
  switch (admission.access) {
    case "account":
      return method === "get" ? "refusals" : "before-answer";
    case "principal":
      return "refusals";
    case "vm":
    case "vm-socket":
      if (!IN_GUEST.has(admission.operation)) return "before-answer";
      return admission.operation === "read" ? "refusals" : "soon";
  }
}

/** Notes what a request names in its path or body, as far as it has the form of a name. */
export function noteNames(attempt: Attempt, named: unknown): void {
  attempt.vmId ??= nameIn(named, "vmId", (text) => isVmId(text) || isSlug(text));
  attempt.identityId ??= nameIn(named, "identityId", isObjectName);
}

/** Notes as whom somebody wants to act, until a verdict says it. */
export function noteLinuxUser(attempt: Attempt, linuxUser: string | null): void {
  attempt.linuxUser = linuxUser !== null && isLinuxUser(linuxUser) ? linuxUser : null;
}

/** Notes what a request has made, whose id is in the answer alone. */
export function noteMade(attempt: Attempt, { method, path }: Endpoint, answer: unknown): void {
  if (method !== "post") return;
  if (answer instanceof Pending) attempt.vmId ??= answer.vmId;
  if (path.endsWith("/vms")) attempt.vmId ??= nameIn(answer, "id", isVmId);
  if (path.endsWith("/identities")) attempt.identityId ??= nameIn(answer, "id", isObjectName);
}

function nameIn(value: unknown, name: string, isName: (text: string) => boolean): string | null {
  if (typeof value !== "object" || value === null) return null;
  const found: unknown = (value as Record<string, unknown>)[name];
  return typeof found === "string" && isName(found) ? found : null;
}
