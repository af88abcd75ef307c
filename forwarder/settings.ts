import { z } from "zod";
import { readSettings, wholeNumber } from "../service/settings.ts";
import { Networks } from "./networks.ts";

const listenAddress = z
  .string()
  .regex(/^(\[[0-9a-fA-F:.]+\]|[^:[\]]*):\d{1,5}$/, "must be address:port")
  .transform((text) => {
    const colon = text.lastIndexOf(":");
    return { address: text.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(text.slice(colon + 1)) };
  })
  .refine(({ port }) => port <= 65_535, "the port must be at most 65535");

const networks = z.string().transform((text, context) => {
  try {
    return new Networks(text);
  } catch (error) {
    context.addIssue(error instanceof Error ? error.message : "must be networks");
    return z.NEVER;
  }
});

const CIPHERS = [
  "aes128-gcm@openssh.com",
  "aes256-gcm@openssh.com",
  "chacha20-poly1305@openssh.com",
  "aes128-ctr",
  "aes192-ctr",
  "aes256-ctr",
] as const;

const cipherList = z
  .string()
  .transform((list) => list.split(",").map((name) => name.trim()))
  .pipe(z.array(z.enum(CIPHERS)).min(1));

/** A forwarder's settings, read from environment variables of these names. Times in milliseconds, sizes in bytes. */
export const forwarderSettings = z.object({
  /** Base URL of the edge. */
  POSTERN_EDGE_URL: z.url().transform((url) => url.replace(/\/+$/, "")),
  /** File with the join token or service key that the forwarder enrols with. Read until it has. */
  POSTERN_SERVICE_KEY_FILE: z.string(),
  /** Folder of what outlives a restart: the host keys, and the forwarder's own key. Made if missing. */
  POSTERN_FORWARDER_STATE: z.string(),
  /** `address:port` to listen on; an empty address means every one, port 0 any free one. */
  POSTERN_SSH_LISTEN: listenAddress.prefault("127.0.0.1:2222"),
  /** Processes that share the port, each with limits of its own; more than 1 needs a port that is named. */
  POSTERN_FORWARDER_WORKERS: wholeNumber(1, 1),
  /** Which of them this process is; set by the first process for the others. */
  POSTERN_FORWARDER_WORKER: wholeNumber(0),
  /** 1: another process of the same user may listen on the same port, so that a new one can start before this one stops. */
  POSTERN_SSH_REUSE_PORT: z
    .enum(["0", "1"])
    .default("0")
    .transform((flag) => flag === "1"),
  /** `address:port` of Prometheus metrics at `/metrics`; off without it. A worker adds its number to the port. */
  POSTERN_METRICS_LISTEN: listenAddress.optional(),
  /** Networks of load balancers that put a PROXY protocol v2 header in front of every connection; nobody else may. */
  POSTERN_SSH_PROXIES: networks.prefault(""),
  /** From accept to a finished login, slow identification strings and key exchange included. */
  POSTERN_SSH_LOGIN_GRACE_MS: wholeNumber(20_000, 1),
  /** Authentication attempts before the connection is ended. The first `none` of a name without a token is not one. */
  POSTERN_SSH_MAX_ATTEMPTS: wholeNumber(6, 1),
  /** Connections at once, logged in or not. */
  POSTERN_SSH_MAX_CONNECTIONS: wholeNumber(10_000, 1),
  /** Connections at once from one address (IPv6: one /64). */
  POSTERN_SSH_MAX_PER_ADDRESS: wholeNumber(1_000, 1),
  /** Unauthenticated connections at which new ones start to be dropped at random (OpenSSH's MaxStartups). */
  POSTERN_SSH_UNAUTHENTICATED_START: wholeNumber(200, 1),
  /** Unauthenticated connections at which every new one is dropped. */
  POSTERN_SSH_UNAUTHENTICATED_FULL: wholeNumber(500, 1),
  /** Unauthenticated connections at once from one address (IPv6: one /64). */
  POSTERN_SSH_UNAUTHENTICATED_PER_ADDRESS: wholeNumber(100, 1),
  /** Log lines a second about connections that have not logged in; the next line says how many were left out, and metrics count them all. */
  POSTERN_SSH_STRANGER_LOG_LINES: wholeNumber(100),
  /** Ciphers offered to clients, whose own order decides among them. An OpenSSH that has one with AES-GCM is offered only those. */
  POSTERN_SSH_CIPHERS: cipherList.prefault(CIPHERS.join(",")),
  /** How long an OpenSSH may take to name its ciphers before it is offered all of them. 0: it is not waited for. */
  POSTERN_SSH_KEXINIT_WAIT_MS: wholeNumber(2_000),
  /** Bytes in both directions after which a client's connection gets new keys (RFC 4253 section 9). */
  POSTERN_SSH_REKEY_BYTES: wholeNumber(1_073_741_824, 1_048_576),
  /** Time after which it does. */
  POSTERN_SSH_REKEY_MS: wholeNumber(3_600_000, 1_000),
  /** How long nothing goes to a client before it is sent a message to ignore, for whatever is in between. */
  POSTERN_SSH_KEEPALIVE_MS: wholeNumber(60_000, 100),
  /** How often it is while its VM wakes and nobody can answer its own keepalives. */
  POSTERN_SSH_WAKING_KEEPALIVE_MS: wholeNumber(1_000, 100),
  /** How often the VM's host is told, while somebody types, that the VM is used. */
  POSTERN_SSH_TYPED_NOTE_MS: wholeNumber(5_000, 100),
  /** Between TCP keepalive probes, so that a vanished client or host is noticed. */
  POSTERN_TCP_KEEPALIVE_MS: wholeNumber(30_000, 1_000),
  /** Longest wait for the edge's answer. Must stay under the login grace. */
  POSTERN_EDGE_TIMEOUT_MS: wholeNumber(8_000, 1),
  /**
   * How long before its end (60 s after it was minted) the ticket of a token login is no longer used for further logins of
   * the same token, VM, Linux user and address.
   */
  POSTERN_TICKET_REUSE_MARGIN_MS: wholeNumber(10_000),
  /** Most tickets kept for that; 0: every login asks the edge. */
  POSTERN_TICKETS_KEPT: wholeNumber(10_000),
  /** Between two tries to enrol while the edge is out of reach. */
  POSTERN_ENROL_RETRY_MS: wholeNumber(1_000, 1),
  /** Longest wait for the host to accept a connection. */
  POSTERN_HOST_CONNECT_TIMEOUT_MS: wholeNumber(5_000, 1),
  /** Longest wait for the host to wake the VM and answer the tunnel request. */
  POSTERN_WAKE_TIMEOUT_MS: wholeNumber(120_000, 1),
  /** Longest wait for the VM's sshd to finish key exchange and login. */
  POSTERN_TARGET_LOGIN_TIMEOUT_MS: wholeNumber(20_000, 1),
  /** Client bytes held while the VM wakes; beyond it the client's socket is paused. */
  POSTERN_WAKE_QUEUE_BYTES: wholeNumber(1_048_576, 1),
  /** Unsent bytes to one side at which the other side's socket is paused. */
  POSTERN_SPLICE_HIGH_WATER_BYTES: wholeNumber(1_048_576, 1),
  /** How long a closing connection may take to hand over its last bytes. */
  POSTERN_CLOSE_LINGER_MS: wholeNumber(3_000, 1),
  /** How long changes of sessions are gathered before the region is told. */
  POSTERN_SESSION_REPORT_MS: wholeNumber(250),
  /** How long live sessions may go on after SIGTERM. */
  POSTERN_DRAIN_MS: wholeNumber(10_000),
  /** How long the edge may be out of reach before a session under a raised floor is cut. */
  POSTERN_RECHECK_DEADLINE_MS: wholeNumber(20_000),
  /** Between tries to check such a session. */
  POSTERN_RECHECK_RETRY_MS: wholeNumber(1_000, 1),
  /** Between checks of every live session while the feed is silent. */
  POSTERN_SILENT_RECHECK_MS: wholeNumber(10_000, 1),
  /** For how long a live session may go on unconfirmed while the edge is out of reach (docs/consistency.md); 0: as long as that lasts. */
  POSTERN_UNCONFIRMED_SESSION_MS: wholeNumber(300_000),
});
export type ForwarderSettings = z.infer<typeof forwarderSettings>;

/** Throws `SettingsError` that names every bad setting. */
export function readForwarderSettings(env: NodeJS.ProcessEnv): ForwarderSettings {
  return readSettings(forwarderSettings, env);
}
