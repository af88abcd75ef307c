import { z } from "zod";
import { isVmId } from "./ids.ts";
import { isPrincipal, isSubject, type Subject } from "./subjects.ts";

/**
 * The feed: one WebSocket that a host or forwarder opens to its region's object at `GET /service/v1/feed` with an
 * assertion of its own (`service-assertion.ts`) as bearer. Text frames of JSON, except the heartbeat: the verifier sends
 * `ping`, and the runtime answers `pong` (see `feedPong`) without waking the object.
 */
export const FEED_PING = "ping";
export const FEED_PONG = "pong";

/** The answer to a heartbeat: `pong` and how many floors the region has sent so far, so that a lost one is missed. */
export function feedPong(floorsSent: number): string {
  return `${FEED_PONG} ${floorsSent}`;
}

/** Reads a heartbeat's answer: the number of floors, or null when the region does not count; undefined: no such answer. */
export function readPong(text: string): number | null | undefined {
  if (text === FEED_PONG) return null;
  return /^pong \d{1,15}$/.test(text) ? Number(text.slice(FEED_PONG.length + 1)) : undefined;
}

const principal = z.custom<Subject>(isPrincipal);
const floor = z.object({ sub: z.custom<Subject>(isSubject), epoch: z.int().nonnegative(), at: z.number() });

const hello = z.discriminatedUnion("role", [
  z.object({
    type: z.literal("hello"),
    role: z.literal("host"),
    /** Stable id of the host agent, kept in its state folder: `[a-z2-7]{16}`. */
    id: z.string().regex(/^[a-z2-7]{16}$/),
    /** Base URL at which the edge and the forwarders reach the host. */
    url: z.url(),
    driver: z.string().max(32),
    version: z.string().max(32),
    /** Most VMs this host takes. */
    capacity: z.int().positive(),
    /** What the machine has: processors, and memory in MiB. */
    cpus: z.int().positive().optional(),
    memory: z.int().positive().optional(),
    /** Memory of a VM for which none was chosen, in MiB. */
    vmMemory: z.int().positive().optional(),
  }),
  z.object({
    type: z.literal("hello"),
    role: z.literal("forwarder"),
    id: z.string().regex(/^[a-z2-7]{16}$/),
    version: z.string().max(32),
  }),
]);

/** A live SSH connection as its forwarder tells of it, so that the account can list and close it. */
const sshSession = z.object({
  /** Made by the forwarder: `[a-z2-7]{16}`; also in its log. */
  id: z.string().regex(/^[a-z2-7]{16}$/),
  /** Id of the account that owns the VM. */
  account: z.string().max(32),
  sub: principal,
  vm: z.string().refine(isVmId),
  user: z.string().max(32),
  /** Id of the credential that logged in. */
  cred: z.string().max(64),
  /** Where the client came from. */
  address: z.string().max(64),
  /** Milliseconds since 1970 UTC. */
  since: z.number(),
});
export type SshSession = z.infer<typeof sshSession>;

/** What a verifier sends. `hello` must be the first frame. */
export const feedUpstream = z.discriminatedUnion("type", [
  hello,
  /** What a host has left, in MiB, and how many VMs run. Told when it has changed by much. */
  z.object({
    type: z.literal("host-load"),
    freeMemory: z.int().nonnegative(),
    freeDisk: z.int().nonnegative(),
    running: z.int().nonnegative(),
  }),
  /** Changes of a forwarder's connections. After every welcome it tells all of them: the region forgets them at the hello. */
  z.object({ type: z.literal("ssh-sessions"), opened: z.array(sshSession).max(32), closed: z.array(z.string()).max(32) }),
]);
export type FeedUpstream = z.infer<typeof feedUpstream>;

/** Ids of ticket keys (RFC 7638 thumbprints) that were withdrawn: no ticket of theirs counts any more, however it looks. */
const keyIds = z.array(z.string().max(64));

/** What the region sends. `welcome` answers `hello` and carries every floor still kept, so a late joiner misses none. */
export const feedDownstream = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("welcome"),
    region: z.string(),
    issuer: z.string(),
    floors: z.array(floor),
    /** Number of the last floor that was sent to anybody; absent from a region that does not count. */
    number: z.int().nonnegative().optional(),
    voidedKeys: keyIds.default([]),
    /** The region's time, in milliseconds since 1970 UTC; absent from a region of an older build. */
    now: z.number().optional(),
    /** To a host: it takes no new VMs and wakes none. */
    draining: z.boolean().optional(),
  }),
  /** To a host: the same, from now on. */
  z.object({ type: z.literal("drain"), draining: z.boolean() }),
  /** `number`: which one it is, counted by the region. */
  z.object({ type: z.literal("floor"), floor, number: z.int().positive().optional() }),
  /** `number`: counted with the floors. */
  z.object({ type: z.literal("keys-voided"), kids: keyIds, number: z.int().positive().optional() }),
  /** To a forwarder: end this connection, if it still is. */
  z.object({ type: z.literal("close-ssh-session"), id: z.string() }),
  z.object({ type: z.literal("refused"), message: z.string() }),
]);
export type FeedDownstream = z.infer<typeof feedDownstream>;
