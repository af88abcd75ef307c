import { z } from "zod";
import { messageOf } from "../../service/message-of.ts";
import { type Finding, good, problem, warning } from "./check.ts";
import { judgeClock } from "./kernel.ts";

const health = z.object({ ok: z.literal(true), at: z.number() });
const jwks = z.object({ keys: z.array(z.unknown()) });

/** Whether the edge answers and has the keys that tickets are verified with. */
export async function lookAtEdge(url: string | undefined, timeoutMs: number): Promise<Finding> {
  if (url === undefined) return warning("not named", "set POSTERN_EDGE_URL as for serve-host, and look again");
  const advice = `check POSTERN_EDGE_URL, DNS, and that this host may connect there: curl -v ${url}/.well-known/jwks.json`;
  try {
    const response = await fetch(`${url}/.well-known/jwks.json`, { signal: AbortSignal.timeout(timeoutMs), redirect: "error" });
    const answer = jwks.safeParse(await response.json());
    if (response.ok && answer.success) return good(`${url} answers, with ${answer.data.keys.length} ticket keys`);
    return problem(`${url} answers ${response.status}, not as an edge does`, advice);
  } catch (error) {
    return problem(`${url} cannot be reached: ${reasonOf(error)}`, advice);
  }
}

/** How far this host's clock is from the edge's; half of the round trip is taken as the way back. */
export async function lookAtClock(url: string | undefined, limits: { timeoutMs: number; skewMs: number }): Promise<Finding> {
  if (url === undefined) return warning("not compared", "set POSTERN_EDGE_URL as for serve-host, and look again");
  try {
    const sent = performance.now();
    const response = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(limits.timeoutMs), redirect: "error" });
    const answer = health.parse(await response.json());
    const back = (performance.now() - sent) / 2;
    return judgeClock(Date.now() - back - answer.at, limits.skewMs);
  } catch {
    return warning("not compared", "the edge must be in reach for that");
  }
}

/** `fetch` says only that it failed; why is in its cause. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return messageOf(cause);
}
