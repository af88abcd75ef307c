/** Header names that more than one part of Postern reads or writes. */

/** Names one request from edge to guest in every log, and is shown to the caller of an error. */
export const TRACE_HEADER = "x-freestyle-trace-id";

/** On the answer to what takes access away: regions, comma-separated, that could not be told yet. Absent: all know. */
export const UNTOLD_REGIONS_HEADER = "postern-untold-regions";

/** Says that the caller polls for an answer that takes longer than so many seconds. */
export const BACKGROUND_AFTER_HEADER = "x-freestyle-background-after-secs";

/** Names a request that goes on in the background; also on what polling for it answers in the end. */
export const BACKGROUND_ID_HEADER = "x-freestyle-background-request-id";

/** The caller's own name for what it wants made at most once (draft-ietf-httpapi-idempotency-key-header). */
export const IDEMPOTENCY_KEY_HEADER = "idempotency-key";

/** On a host's answer about a job: `running`, `done` (an `ExecAnswer` follows) or `failed` (its `Failure` follows). */
export const JOB_STATE_HEADER = "postern-job-state";

/** On a host's answer to what was asked for as the guest's own user: who that was. */
export const ACTED_AS_HEADER = "postern-acted-as";

/** On a host's answer to a file read: `file` (raw bytes follow) or `directory` (JSON follows). */
export const FILE_KIND_HEADER = "postern-file-kind";

/** On a `CONNECT`: the OpenSSH public key line that the VM shall admit for the ticket's Linux user, for a minute. */
export const SSH_KEY_HEADER = "postern-ssh-key";

/** On the answer to a `CONNECT`: the VM's OpenSSH host key line, which the forwarder pins. */
export const HOST_KEY_HEADER = "postern-host-key";

/** On the answer to a `CONNECT`, and on what is asked about the tunnel: its id, a secret of host and forwarder, by which its forwarder may say that it is used and ask why it was cut. */
export const TUNNEL_HEADER = "postern-tunnel";

/** On a visitor's request that goes to a host: the visitor's own `Authorization`, which is the guest's to read. */
export const GUEST_AUTHORIZATION_HEADER = "postern-guest-authorization";

/** On a host's answer: the guest gave it. Without it, it is the host's own word. */
export const GUEST_ANSWER_HEADER = "postern-guest-answer";
