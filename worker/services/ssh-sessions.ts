import type { SshSessionRow } from "../../durable-objects/contract.ts";
import { readRegions } from "../../durable-objects/settings.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { isObjectName } from "../../protocol/ids.ts";
import type { Edge } from "../edge.ts";
import { ask, regionNamed } from "../objects.ts";

/** A live SSH connection and the region whose forwarder holds it. */
export type SshSessionOfRegion = SshSessionRow & { readonly region: string };

/** The SSH connections into an account's VMs, in every region. */
export async function listSshSessions(edge: Edge, accountId: string): Promise<Result<readonly SshSessionOfRegion[]>> {
  const regions = readRegions(edge.env.REGIONS);
  const found = await Promise.all(
    regions.map((region) => ask(async () => (await regionNamed(edge.env, region)).listSshSessions(accountId))),
  );
  const sessions: SshSessionOfRegion[] = [];
  for (const [index, region] of regions.entries()) {
    const listed = found[index];
    if (listed === undefined) continue;
    if (!listed.ok) return listed;
    for (const row of listed.value) sessions.push({ ...row, region });
  }
  return success(sessions);
}

/** Has the forwarder that holds a connection end it. Safe to ask twice. */
export async function closeSshSession(edge: Edge, accountId: string, id: string): Promise<Result<null>> {
  const absent = failure("session-not-found", "This SSH session does not exist, or it has ended.");
  if (!isObjectName(id)) return absent;
  for (const region of readRegions(edge.env.REGIONS)) {
    const closed = await ask(async () => (await regionNamed(edge.env, region)).closeSshSession(accountId, id));
    if (closed.ok || closed.failure.kind !== "session-not-found") return closed;
  }
  return absent;
}
