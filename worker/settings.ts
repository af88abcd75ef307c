import { z } from "zod";
import { DEFAULT_SETTINGS } from "../durable-objects/settings.ts";

const positive = (fallback: number) => z.coerce.number().int().positive().default(fallback);
const zeroOrMore = (fallback: number) => z.coerce.number().int().min(0).default(fallback);

/**
 * Settings of the Worker, read from environment variables of the same names. `docs/edge-settings.md` lists them with what
 * each one is for.
 */
const edgeSettings = z.object({
  /** Most bytes of a JSON request body, files excepted. Exec takes 1 MiB of stdin, which base64 makes 1.4 MiB. */
  MAX_JSON_BYTES: positive(2 * 1024 * 1024),
  /** Most bytes of a file written in one request; it is held in memory while it is decoded. */
  MAX_FILE_WRITE_BYTES: positive(16 * 1024 * 1024),
  /** Most bytes of a host's answer that must be read whole: failures, with a timed-out command's output, and listings. */
  MAX_HOST_ANSWER_BYTES: positive(32 * 1024 * 1024),
  /** Most bytes of all files that come with a new VM together; its object keeps them until they are in the guest. */
  MAX_CREATE_FILES_BYTES: positive(1024 * 1024),
  /** Most bytes of a command's standard input. */
  EXEC_MAX_STDIN_BYTES: positive(1024 * 1024),
  /** Time-out of a `/v5` exec that names none, in milliseconds; in `/v1` the host's own default holds. */
  EXEC_V5_TIMEOUT_MS: positive(30_000),
  /** Most copies that one fork makes. */
  MAX_FORKS: positive(16),
  /** Longest time-out that an exec may ask for, in milliseconds. */
  EXEC_MAX_TIMEOUT_MS: positive(300_000),
  /** How long a host may take to begin its answer, in milliseconds. Longer than any exec may run. */
  HOST_TIMEOUT_MS: positive(330_000),
  /** Between two looks whether a host that has not begun its answer is known to be down, in milliseconds. */
  HOST_DOWN_CHECK_MS: positive(5_000),
  /** How long a file may take to stream to a host, in milliseconds. */
  UPLOAD_TIMEOUT_MS: positive(3_600_000),
  /** Oldest verdict and placement, in milliseconds, that a request is forwarded with; verifiers keep floors for longer. */
  VERDICT_MAX_AGE_MS: positive(60_000),
  /**
   * Age, in milliseconds, beyond which a verdict or place that is used is read again behind the answer; at VERDICT_MAX_AGE_MS or
   * more: never.
   */
  VERDICT_REFRESH_AGE_MS: positive(40_000),
  /** How long a refusal is repeated without its object being asked, in milliseconds; 0: never. */
  REFUSAL_MAX_AGE_MS: zeroOrMore(2_000),
  /** Verdicts that an isolate keeps, and as many placements; the ones used longest ago go first. */
  VERDICT_CACHE_ENTRIES: positive(20_000),
  /** Whether the isolates of one location share what they read, by the Cache API; 0: they do not. */
  COLO_CACHE: zeroOrMore(1),
  /** A ticket of the edge's own is used again for the same verdict until so long before its end, in milliseconds. */
  TICKET_REUSE_MARGIN_MS: positive(15_000),
  /** Age, in milliseconds, beyond which a verdict is read again before a body is streamed, which can be done once only. */
  STREAM_VERDICT_MAX_AGE_MS: positive(1_000),
  /** The objects' longest page, which is also the size of a page when the caller names none. */
  MAX_PAGE_SIZE: positive(DEFAULT_SETTINGS.MAX_PAGE_SIZE),
  /** Longest life of an access token that is made with an expiry, in seconds. */
  TOKEN_MAX_LIFE_S: positive(10 * 365 * 24 * 3600),
  /** Life of a join token that names none, in seconds. */
  JOIN_TOKEN_LIFE_S: positive(900),
  /** Longest life of a join token, in seconds; a longer wish gets this. */
  JOIN_TOKEN_MAX_LIFE_S: positive(86_400),
  /** Life of a ticket for a terminal's WebSocket, in seconds; no ticket may live longer than 60. */
  TERMINAL_TICKET_LIFE_S: positive(30),
  /** How long a verifier or a cache may keep the ticket keys, in seconds. */
  JWKS_MAX_AGE_S: positive(60),
  /** Questions that one isolate has under way at one identity's object; the rest is told to come back. */
  OBJECT_MAX_INFLIGHT: positive(500),
  /** How long such a question may take before it is no longer counted, in milliseconds. */
  OBJECT_PATIENCE_MS: positive(10_000),
  /** Least time, in seconds, between two looks of an isolate for a ticket key that it does not know. */
  JWKS_COOLDOWN_S: positive(5),
  /** How long a browser may keep the answer to a preflight, in seconds. */
  CORS_MAX_AGE_S: positive(86_400),
  /** What `Retry-After` tells callers of something that is away for a moment, in seconds. */
  RETRY_AFTER_S: positive(2),
  /** Requests a second that one credential may send, for ever; 0: as many as it likes. */
  RATE_PRINCIPAL_PER_S: zeroOrMore(200),
  /** Requests that one credential may send at once, on top. */
  RATE_PRINCIPAL_BURST: positive(1_000),
  /** Requests a second without a live credential that one address may send, for ever; 0: as many as it likes. */
  RATE_ADDRESS_FAILURES_PER_S: zeroOrMore(20),
  /** Such requests that one address may send at once, on top. */
  RATE_ADDRESS_FAILURES_BURST: positive(200),
  /** Credentials and addresses that an isolate counts; the ones that were quiet longest are forgotten first. */
  RATE_MAX_KEYS: positive(10_000),
  /** Most characters of a request's URL and headers together. */
  MAX_REQUEST_HEAD_BYTES: positive(32 * 1024),
  /** How long a body that is read whole may stall, in milliseconds. Hosts see to files that stream (`POSTERN_BODY_IDLE_MS`). */
  BODY_IDLE_TIMEOUT_MS: positive(20_000),
  /** How long a body that is read whole may take to arrive, in milliseconds. */
  JSON_BODY_TIMEOUT_MS: positive(120_000),
  /** 1: a line in the log for each request, with its trace id. */
  LOG_REQUESTS: zeroOrMore(0),
  /** How long an isolate gathers audit events of data-plane requests before it writes them, in milliseconds. */
  AUDIT_FLUSH_MS: positive(1_000),
  /** Audit events that an isolate gathers at most; then it writes them at once. */
  AUDIT_BATCH_EVENTS: positive(200),
  /** Longest wait for an answer before a request that may goes on in the background, in seconds; 0: none ever does. */
  BACKGROUND_MAX_WAIT_S: zeroOrMore(20),
  /** How long a guest may take to begin its answer to a visitor of the VM's name, waking included, in milliseconds. */
  GUEST_ANSWER_TIMEOUT_MS: positive(330_000),
  /** Life of a signed link to a VM's name that names none, in seconds. */
  HTTP_LINK_LIFE_S: positive(3_600),
  /** Longest life of such a link, in seconds. */
  HTTP_LINK_MAX_LIFE_S: positive(7 * 24 * 3600),
  /** How long the result of such a request is kept, in milliseconds. Hosts keep theirs by `POSTERN_JOB_KEEP_MS`. */
  BACKGROUND_KEEP_MS: positive(600_000),
});

export type Settings = z.output<typeof edgeSettings>;

/** Names of everything that a deployment may set for the Worker and its objects. */
export const EDGE_SETTING_NAMES: readonly string[] = [
  ...Object.keys(DEFAULT_SETTINGS),
  ...Object.keys(edgeSettings.shape),
  "CLIENT_ADDRESS_HEADER",
  "VM_DOMAIN",
];

/** Environment variables that change the settings; every one is optional. */
export type SettingVars = { readonly [Name in keyof Settings]?: string };

/** With a ticket's own life on top, this stays well under the time for which verifiers keep a floor. */
const LONGEST_VERDICT_AGE_MS = 60_000;

/** Reads the settings. Throws when one is malformed or they contradict each other: better no answers than wrong limits. */
export function readSettings(vars: SettingVars): Settings {
  const read = edgeSettings.safeParse(Object.fromEntries(Object.entries(vars).filter(([, value]) => value !== "")));
  if (!read.success) throw new Error(read.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; "));
  const settings = read.data;
  if (settings.HOST_TIMEOUT_MS <= settings.EXEC_MAX_TIMEOUT_MS) {
    throw new Error("HOST_TIMEOUT_MS must exceed EXEC_MAX_TIMEOUT_MS");
  }
  if (settings.VERDICT_MAX_AGE_MS > LONGEST_VERDICT_AGE_MS) {
    throw new Error(`VERDICT_MAX_AGE_MS is at most ${LONGEST_VERDICT_AGE_MS}: verifiers forget the floors of older verdicts`);
  }
  return settings;
}
