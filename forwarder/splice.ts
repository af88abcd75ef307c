import { GlobalReplies } from "./global-replies.ts";
import { ANNOUNCE_HOST_KEYS } from "./host-key-proof.ts";
import type { PacketLeg } from "./packet-leg.ts";
import { boundPacketSize, globalRequestName, isGlobalReply, refuseChannel, wantsGlobalReply } from "./ssh-messages.ts";

/** Bounds of a splice, in bytes; see the settings of the same names. */
export interface SpliceLimits {
  readonly wakeQueueBytes: number;
  readonly highWaterBytes: number;
}

/**
 * Copies connection-protocol packets between a client and its VM, channel numbers and all, so that windows, EOF, exit
 * codes and whatever else passes through unread. Until the VM is there the client's packets wait; a side that sends
 * faster than the other takes is paused.
 */
export class Splice {
  readonly #client: PacketLeg;
  readonly #limits: SpliceLimits;
  #target: PacketLeg | null = null;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #refusal: string | null = null;
  #refused = 0;
  readonly #paused = new Set<PacketLeg>();
  readonly #replies = new GlobalReplies();

  constructor(client: PacketLeg, limits: SpliceLimits) {
    this.#client = client;
    this.#limits = limits;
  }

  /** A packet from the client; copied when it has to wait. */
  fromClient(payload: Uint8Array): void {
    if (wantsGlobalReply(payload)) this.#replies.passedOn();
    if (this.#target !== null) {
      this.#copy(payload, this.#client, this.#target);
      return;
    }
    if (this.#refusal !== null) {
      this.#refuse(payload, this.#refusal);
      return;
    }
    this.#queue.push(Buffer.from(payload));
    this.#queuedBytes += payload.length;
    if (this.#queuedBytes > this.#limits.wakeQueueBytes) this.#client.pause();
  }

  /** A packet from the VM. Its host keys are not the forwarder's, and the client would check later logins against them. */
  fromTarget(payload: Uint8Array): void {
    if (globalRequestName(payload) === ANNOUNCE_HOST_KEYS || this.#target === null) return;
    this.#copy(payload, this.#target, this.#client);
    if (isGlobalReply(payload)) for (const answer of this.#replies.replied()) this.#client.send(answer);
  }

  /** Replies to a global request that the VM does not get, once its older requests have been replied to. */
  answer(reply: Buffer): void {
    for (const answer of this.#replies.answered(reply)) this.#client.send(answer);
  }

  /** The VM is there: sends on what waited. */
  join(target: PacketLeg): void {
    this.#target = target;
    for (const payload of this.#queue) target.send(boundPacketSize(payload));
    this.#queue = [];
    this.#queuedBytes = 0;
    target.onceSent(() => this.#client.resume());
  }

  /** The VM will not come: tells every channel that waits, and every one still to be opened, why. */
  refuse(text: string): void {
    this.#refusal = text;
    for (const payload of this.#queue) this.#refuse(payload, text);
    this.#queue = [];
    this.#client.resume();
  }

  #refuse(payload: Uint8Array, text: string): void {
    for (const answer of refuseChannel(payload, text, this.#refused)) this.#client.send(answer);
    this.#refused += 1;
  }

  #copy(payload: Uint8Array, from: PacketLeg, to: PacketLeg): void {
    to.send(boundPacketSize(payload));
    if (to.unsentBytes <= this.#limits.highWaterBytes || this.#paused.has(from)) return;
    this.#paused.add(from);
    from.pause();
    to.onceSent(() => {
      this.#paused.delete(from);
      from.resume();
    });
  }
}
