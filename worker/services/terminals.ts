import { failure, type Result, success } from "../../protocol/failures.ts";
import {
  type TerminalClosed,
  type TerminalDialect,
  type TerminalList,
  type TerminalOutput,
  terminalClosed,
  terminalList,
  terminalOutput,
} from "../../protocol/host-api.ts";
import type { Edge } from "../edge.ts";
import { readHostJson } from "../hosts/fetch-host.ts";
import { forward } from "../hosts/forward.ts";
import type { HostCaller } from "../hosts/host-caller.ts";
import { logEvent } from "../log.ts";
import type { Authority } from "./authorise.ts";

/** What a terminal session shall be; the members of `TerminalOpen` that were given. */
export interface TerminalWish {
  readonly cols?: number | undefined;
  readonly rows?: number | undefined;
  readonly exec?: string | undefined;
  readonly name?: string | undefined;
  readonly slug?: string | undefined;
  readonly replaceOnExit?: boolean | undefined;
}

/** Opens a session, or finds the one of that slug, and a socket to it. The answer is the upgrade itself. */
export function openTerminal(caller: HostCaller, dialect: TerminalDialect, wish: TerminalWish): Promise<Result<Response>> {
  return caller.call({ method: "GET", path: `/vms/${caller.vmId}/terminals/open?${queryOf({ dialect, ...wish })}`, upgrade: true });
}

/** Opens a socket to a session that is there. */
export function attachTerminal(
  caller: HostCaller,
  dialect: TerminalDialect,
  sessionId: string,
  size: Pick<TerminalWish, "cols" | "rows">,
): Promise<Result<Response>> {
  const path = `/vms/${caller.vmId}/terminals/${encodeURIComponent(sessionId)}/attach?${queryOf({ dialect, ...size })}`;
  return caller.call({ method: "GET", path, upgrade: true });
}

/** The sessions that the verdict's Linux user may reach. */
export async function listTerminals(edge: Edge, authority: Authority): Promise<Result<TerminalList>> {
  const answer = await forward(edge, authority, { method: "GET", path: `/vms/${authority.verdict.vmId}/terminals` });
  return answer.ok ? readAnswer(edge, answer.value, (value) => terminalList.safeParse(value)) : answer;
}

/** The last output of a session that 0.1 names. */
export async function readTerminal(edge: Edge, authority: Authority, name: string): Promise<Result<TerminalOutput>> {
  const path = `/vms/${authority.verdict.vmId}/terminals/${encodeURIComponent(name)}/output`;
  const answer = await forward(edge, authority, { method: "GET", path });
  if (answer.ok) return readAnswer(edge, answer.value, (value) => terminalOutput.safeParse(value));
  return answer.failure.kind.startsWith("session-") ? NO_TERMINAL : answer;
}

const NO_TERMINAL = failure("terminal-not-found", "There is no such terminal, or it is another Linux user's.");

/** Ends a session and forgets it. */
export async function closeTerminal(
  edge: Edge,
  authority: Authority,
  dialect: TerminalDialect,
  sessionId: string,
): Promise<Result<TerminalClosed>> {
  const path = `/vms/${authority.verdict.vmId}/terminals/${encodeURIComponent(sessionId)}?${queryOf({ dialect })}`;
  const answer = await forward(edge, authority, { method: "DELETE", path });
  return answer.ok ? readAnswer(edge, answer.value, (value) => terminalClosed.safeParse(value)) : answer;
}

type Parse<T> = (value: unknown) => { readonly success: true; readonly data: T } | { readonly success: false };

async function readAnswer<T>(edge: Edge, response: Response, parse: Parse<T>): Promise<Result<T>> {
  const json = await readHostJson(edge, response);
  const read = json.ok ? parse(json.value) : null;
  if (read?.success) return success(read.data);
  logEvent("host-answer-unreadable", { traceId: edge.traceId, status: response.status });
  return failure("host-unavailable", "The machine that runs this VM gave an answer that cannot be read.");
}

function queryOf(values: Readonly<Record<string, string | number | boolean | undefined>>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined) query.set(name, String(value));
  return query.toString();
}
