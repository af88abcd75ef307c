import { createLocalJWKSet, type JSONWebKeySet } from "jose";
import { FAILURES, type Failure, type FailureKind } from "../../../protocol/failures.ts";
import { FILE_KIND_HEADER, GUEST_ANSWER_HEADER, JOB_STATE_HEADER } from "../../../protocol/headers.ts";
import type { ExecAnswer } from "../../../protocol/host-api.ts";
import { checkTicket, hostAudience, type TicketClaims } from "../../../protocol/ticket.ts";

/** One request that a stub host served, after its ticket was verified. */
export interface ServedCall {
  readonly method: string;
  readonly path: string;
  readonly search: string;
  readonly claims: TicketClaims;
  readonly headers: Headers;
  readonly body: Uint8Array;
}

type Answer = (call: ServedCall) => Response | Promise<Response>;

/** A host that verifies every ticket as a real one does, remembers what it was asked, and answers as a test tells it. */
export class StubHost {
  readonly id: string;
  readonly url: string;
  readonly calls: ServedCall[] = [];
  readonly #keys: () => Promise<JSONWebKeySet>;
  readonly #queued: Answer[] = [];
  isReachable = true;

  constructor(id: string, keys: () => Promise<JSONWebKeySet>) {
    this.id = id;
    this.url = `http://${id}.hosts.test`;
    this.#keys = keys;
  }

  /** Answers the next operation of `CHOSEN` like this, instead of as usual. */
  answerNext(answer: Answer): void {
    this.#queued.push(answer);
  }

  async serve(request: Request): Promise<Response> {
    if (!this.isReachable) throw new TypeError("connection refused");
    const ticket = /^Bearer (.+)$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
    const checked = await checkTicket(ticket, {
      getKey: createLocalJWKSet(await this.#keys()),
      issuer: "postern",
      audience: hostAudience(this.id),
      now: Date.now(),
    });
    if (!checked.ok) return failed("ticket-refused", checked.reason);
    const { pathname, search } = new URL(request.url);
    const { claims } = checked;
    const [, , vm, action] = pathname.split("/");
    if (claims.vm !== vm) return failed("ticket-refused", "vm");
    const { method, headers } = request;
    const call = { method, path: pathname, search, claims, headers, body: new Uint8Array(await request.arrayBuffer()) };
    this.calls.push(call);
    const next = CHOSEN.has(action ?? "") ? this.#queued.shift() : undefined;
    return next === undefined ? usual(call, action) : next(call);
  }
}

/** A host's refusal. */
export function failed(kind: FailureKind, message: string, details?: Failure["details"]): Response {
  const failure: Failure = details === undefined ? { kind, message } : { kind, message, details };
  return Response.json(failure, { status: FAILURES[kind].v5[1] });
}

/** A guest's answer to a visitor, as its host passes it on. */
export function guestSays(body: string | null, init: ResponseInit = {}): Response {
  const headers = new Headers(init.headers);
  headers.set(GUEST_ANSWER_HEADER, "1");
  return new Response(body, { ...init, headers });
}

/** A host's answer about a job that runs, is done, or failed. */
export const jobRuns = () => Response.json({}, { headers: { [JOB_STATE_HEADER]: "running" } });
export const jobDone = (answer: ExecAnswer) => Response.json(answer, { headers: { [JOB_STATE_HEADER]: "done" } });
export const jobFailed = (failure: Failure) => Response.json(failure, { headers: { [JOB_STATE_HEADER]: "failed" } });

/** Routes whose next answer a test may choose. */
const CHOSEN: ReadonlySet<string> = new Set([
  "exec",
  "files",
  "uploads",
  "jobs",
  "terminals",
  "services",
  "snapshots",
  "resize",
  "http",
]);

function usual({ method, path: pathname, search }: ServedCall, action: string | undefined): Response {
  if (action === "http") return guestSays("a page");
  if (action === "jobs") return jobDone({ stdout: "ran\n", stderr: "", statusCode: 0 });
  if (action === "exec") return Response.json({ stdout: "ran\n", stderr: "", statusCode: 0 });
  if (action === "files" && method !== "GET") return Response.json({});
  if (action === "uploads") return Response.json({ uploadId: "a".repeat(24), path: "/tmp/made", size: 1, receivedBytes: 0 });
  if (action === "files" && search === "?path=%2F") {
    const files = [
      { name: "etc", kind: "directory" },
      { name: "motd", kind: "file" },
      { name: "lib", kind: "symlink" },
    ];
    return Response.json({ files }, { headers: { [FILE_KIND_HEADER]: "directory" } });
  }
  if (action === "terminals")
    return Response.json(method === "GET" ? { sessions: [] } : { number: 1, name: "pty-1", exitCode: null });
  if (action === "services") return usualService(method, pathname);
  if (action === "files") return new Response("content", { headers: { [FILE_KIND_HEADER]: "file" } });
  const states: Record<string, string> = { stop: "stopped", suspend: "suspended" };
  const state = method === "DELETE" ? "missing" : (states[action ?? ""] ?? "running");
  return Response.json({ state, at: Date.now() });
}

function usualService(method: string, path: string): Response {
  const [, , , , name, what] = path.split("/");
  if (method === "POST" && name === "act") return Response.json({ results: [{ name: "web", success: true, message: "done" }] });
  if (method !== "GET") return Response.json({});
  if (what === "logs") return Response.json({ logs: [{ message: "hello", timestamp: "2026-01-01T00:00:00.000Z", priority: 6 }] });
  if (name === undefined) return Response.json({ services: [{ name: "ssh" }, { name: "web" }] });
  const states = { activeState: "active", subState: "running", loadState: "loaded" };
  return Response.json({ name, ...states, description: "A service" });
}
