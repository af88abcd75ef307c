import { z } from "zod";
import { machineStatus } from "./host-api.ts";
import { isVmId } from "./ids.ts";
import { isServiceId, type ServiceId, servicePublicKey } from "./service-assertion.ts";
import { isPrincipal, type Subject } from "./subjects.ts";

/**
 * How a host or forwarder gets a name of its own: `POST /service/v1/enrolments`, a join token or a service key as bearer. The
 * answer is `EnrolmentAnswer` with 200, or a JSON `Failure`. The same key may be enrolled again with the same bearer, so an
 * answer that was lost can be asked for anew. Every other request here shows an assertion (`service-assertion.ts`) as bearer.
 */
export const enrolmentRequest = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("host"), hostId: z.string().regex(/^[a-z2-7]{16}$/), publicKey: servicePublicKey }),
  z.object({ kind: z.literal("forwarder"), publicKey: servicePublicKey }),
]);
export type EnrolmentRequest = z.infer<typeof enrolmentRequest>;
export type ServiceKind = EnrolmentRequest["kind"];

export const enrolmentAnswer = z.object({
  serviceId: z.custom<ServiceId>((value) => typeof value === "string" && isServiceId(value)),
  region: z.string(),
  /** `aud` of the service's assertions. */
  issuer: z.string(),
});
export type EnrolmentAnswer = z.infer<typeof enrolmentAnswer>;

/**
 * What a forwarder asks of the edge: `POST /service/v1/ssh-tickets`.
 * The answer is `SshTicketAnswer` with 200, or a JSON `Failure` with the status of its `/v5` row, whose `message` may be
 * shown to the person who logs in.
 */
export const sshTicketRequest = z.object({
  vmId: z.string(),
  /** `null`: none was named in the login. */
  linuxUser: z.string().nullable(),
  /** The access token (or API key) that was shown; checked by the edge, never stored by the forwarder. */
  token: z.string().max(256),
  /** The asking forwarder's id; the ticket is bound to it. */
  forwarderId: z.string().regex(/^[a-z2-7]{16}$/),
  /** Where the client came from, for the audit trail. */
  clientAddress: z.string().max(64),
  /** A verifier refused the last ticket as stale: the answer must come from the subject's object, not from a cache. */
  fresh: z.boolean().default(false),
  /** Id of the withdrawn key that signed the last ticket, so that whoever signed it looks for the key that signs now. */
  voidedKey: z.string().max(64).optional(),
});
export type SshTicketRequest = z.infer<typeof sshTicketRequest>;

export const sshTicketAnswer = z.object({ ticket: z.string() });
/** The ticket's claims say the rest: host URL, Linux user, expiry. */
export type SshTicketAnswer = z.infer<typeof sshTicketAnswer>;

/**
 * May a live session go on? `POST /service/v1/session-checks`. A forwarder may ask about SSH in its region, a host about VMs
 * that are placed on it; about any other the answer is that there is no such VM. The answer is `SessionCheckAnswer` with 200, read from the subject's object itself, or a JSON `Failure` with the status of its `/v5`
 * row: a session that is refused ends, one whose answer is a 5xx is asked about again.
 */
export const sessionCheckRequest = z.object({
  vmId: z.string(),
  linuxUser: z.string(),
  /** What the session does: an SSH login, a terminal's socket, a watch of files, or an HTTP exchange with a guest. */
  operation: z.enum(["ssh", "terminal", "files", "http"]).default("ssh"),
  /** `sub` of the session's ticket. */
  subject: z.custom<Subject>(isPrincipal),
  /** `cred` of the session's ticket: the access token or API key that logged in. */
  credentialId: z.string().max(64),
});
export type SessionCheckRequest = z.infer<typeof sessionCheckRequest>;

/** The epochs of everything that the session hangs on, when it was asked. */
export const sessionCheckAnswer = z.object({
  epoch: z.int().nonnegative(),
  accountEpoch: z.int().nonnegative().default(0),
  vmEpoch: z.int().nonnegative().default(0),
});
export type SessionCheckAnswer = z.infer<typeof sessionCheckAnswer>;

/** Most states in one report: each is a call of the edge to the object of that VM, and all of them are made at once. */
export const MAX_REPORTED_STATES = 20;

/**
 * What a host tells of its machines: `POST /service/v1/machine-states`. A VM's object takes it only from the host that the VM is
 * placed on, and only if it is newer than what it knows. Not over the feed: nothing may stand between a floor and its verifiers, and
 * what was answered here need not be told again after every break.
 */
export const machineStatesReport = z.object({
  states: z
    .array(machineStatus.pick({ state: true, at: true }).extend({ vm: z.string().refine(isVmId) }))
    .min(1)
    .max(MAX_REPORTED_STATES),
});
export type MachineStatesReport = z.infer<typeof machineStatesReport>;

/** VMs whose objects could not be told just now: tell of them again. The others are done with, whatever came of it. */
export const machineStatesAnswer = z.object({ untold: z.array(z.string()) });
export type MachineStatesAnswer = z.infer<typeof machineStatesAnswer>;
