import { createLocalJWKSet, type JSONWebKeySet } from "jose";
import { FAILURES, type Failure, type FailureKind } from "../../../protocol/failures.ts";
import { FEED_PING, feedDownstream, readPong } from "../../../protocol/feed.ts";
import { FILE_KIND_HEADER, GUEST_ANSWER_HEADER, JOB_STATE_HEADER } from "../../../protocol/headers.ts";
import type { ExecAnswer } from "../../../protocol/host-api.ts";
import { hostAudience, type TicketClaims, ticketKeyId } from "../../../protocol/ticket.ts";
import { TicketVerifier } from "../../../protocol/verifier.ts";

/** One request that a stub host served, after its ticket was verified. */
export interface ServedCall {
  readonly method: string;
  readonly path: string;
  readonly search: string;
  readonly claims: TicketClaims;
  readonly headers: Headers;
  readonly body: Uint8Array;
}

/** How often a host that has a call waiting asks its feed, in milliseconds. */
const ASK_MS = 2;

type Answer = (call: ServedCall) => Response | Promise<Response>;

/** A host that verifies every ticket as a real one does, remembers what it was asked, and answers as a test tells it. */
export class StubHost {
  readonly id: string;
  url: string;
  readonly calls: ServedCall[] = [];
  /** Tickets that were refused as stale, by reason. */
  readonly refusals: ("stale-epoch" | "stale-authority")[] = [];
  readonly #verifier: TicketVerifier;
  readonly #queued: Answer[] = [];
  #waiting = 0;
  #pongs = 0;
  #isJoined = false;
  /** The key of every ticket that was shown. */
  readonly shownKeys: (string | null)[] = [];
  isReachable = true;
  /** Whether floors reach this host. A silent feed is noticed as a real host notices it. */
  isFeedUp = true;

  constructor(id: string, keys: () => Promise<JSONWebKeySet>) {
    this.id = id;
    this.url = `http://${id}.hosts.test`;
    this.#verifier = new TicketVerifier({
      getKey: async (header, token) => createLocalJWKSet(await keys())(header, token),
      issuer: "postern",
      audience: hostAudience(id),
      clock: () => this.clock(),
    });
  }

  /** This host's clock. */
  clock = () => Date.now();

  /** Takes floors from a feed that this host has joined. */
  listen(feed: WebSocket): void {
    this.#isJoined = true;
    feed.addEventListener("message", ({ data }) => this.#hear(String(data)));
    // Only the request that opened a socket may use it, and calls are served for others: so they wait for this one to ask.
    const ask = setInterval(() => {
      if (this.#waiting > 0) feed.send(FEED_PING);
    }, ASK_MS);
    feed.addEventListener("close", () => clearInterval(ask));
  }

  #hear(text: string): void {
    if (!this.isFeedUp) return;
    this.#verifier.feedHeard();
    if (readPong(text) !== undefined) {
      this.#pongs += 1;
      return;
    }
    const message = feedDownstream.parse(JSON.parse(text));
    if (message.type === "keys-voided") this.#verifier.voidKeys(message.kids);
    if (message.type === "welcome") this.#verifier.voidKeys(message.voidedKeys);
    if (message.type === "floor") this.#verifier.floors.raise(message.floor);
    if (message.type === "welcome") for (const floor of message.floors) this.#verifier.floors.raise(floor);
  }

  /** Waits for every floor that was sent so far: the feed keeps the order. */
  async #caughtUp(): Promise<void> {
    if (!this.isFeedUp || !this.#isJoined) return;
    // The first pong may answer a ping from before this call; the second cannot.
    const enough = this.#pongs + 2;
    this.#waiting += 1;
    // Looked at again and again, since no request may settle what another one awaits.
    while (this.#pongs < enough && this.isFeedUp) await new Promise((resolve) => setTimeout(resolve, ASK_MS));
    this.#waiting -= 1;
  }

  /** Answers the next operation of `CHOSEN` like this, instead of as usual. */
  answerNext(answer: Answer): void {
    this.#queued.push(answer);
  }

  async serve(request: Request): Promise<Response> {
    if (!this.isReachable) throw new TypeError("connection refused");
    const ticket = /^Bearer (.+)$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
    this.shownKeys.push(ticketKeyId(ticket));
    await this.#caughtUp();
    const checked = await this.#verifier.verify(ticket);
    if (!checked.ok) {
      if (checked.reason === "voided-key") return failed("stale-authority", checked.reason, { voidedKey: true });
      const isStale = checked.reason === "stale-epoch" || checked.reason === "stale-authority";
      if (isStale) this.refusals.push(checked.reason);
      return failed(isStale ? checked.reason : "ticket-refused", checked.reason);
    }
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
