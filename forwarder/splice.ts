import { GlobalReplies } from "./global-replies.ts";
import { ANNOUNCE_HOST_KEYS } from "./host-key-proof.ts";
import type { Packet } from "./packet.ts";
import type { PacketLeg } from "./packet-leg.ts";
import { boundPacketSize, globalRequestName, isGlobalReply, refuseChannel, SSH_MESSAGE, wantsGlobalReply } from "./ssh-messages.ts";

/** What a packet that waits takes beside its payload, so that a queue of small ones is bounded too. */
const PACKET_OVERHEAD_BYTES = 512;

/** Packets that waited and are passed on in one go: a millisecond of work or two. */
const PACKETS_A_SLICE = 64;

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
  #queue: Packet[] = [];
  #queuedBytes = 0;
  #refusal: string | null = null;
  #refused = 0;
  readonly #paused = new Set<PacketLeg>();
  readonly #replies = new GlobalReplies();

  constructor(client: PacketLeg, limits: SpliceLimits) {
    this.#client = client;
    this.#limits = limits;
  }

  /** A packet from the client; kept when it has to wait. */
  fromClient(packet: Packet): void {
    if (packet.type === SSH_MESSAGE.GLOBAL_REQUEST && wantsGlobalReply(packet.payload)) this.#replies.passedOn();
    if (this.#queue.length === 0 && this.#pass(packet)) return;
    this.#queue.push(packet.keep());
    this.#queuedBytes += packet.length + PACKET_OVERHEAD_BYTES;
    if (this.#queuedBytes > this.#limits.wakeQueueBytes) this.#client.pause();
  }

  /** A packet from the VM. Its host keys are not the forwarder's, and the client would check later logins against them. */
  fromTarget(packet: Packet): void {
    if (this.#target === null) return;
    if (packet.type === SSH_MESSAGE.GLOBAL_REQUEST && globalRequestName(packet.payload) === ANNOUNCE_HOST_KEYS) return;
    this.#copy(packet, this.#target, this.#client);
    if (isGlobalReply(packet.type)) for (const answer of this.#replies.replied()) this.#client.send(answer);
  }

  /** Replies to a global request that the VM does not get, once its older requests have been replied to. */
  answer(reply: Buffer): void {
    for (const answer of this.#replies.answered(reply)) this.#client.send(answer);
    this.#restrain(this.#client, this.#client);
  }

  /** Answers of our own that wait until the VM has replied to older requests. */
  get waitingAnswers(): number {
    return this.#replies.waiting;
  }

  /** The VM is there: sends on what waited. */
  join(target: PacketLeg): void {
    this.#target = target;
    this.#passQueue();
  }

  /** The VM will not come: tells every channel that waits, and every one still to be opened, why. */
  refuse(text: string): void {
    this.#refusal = text;
    this.#passQueue();
  }

  /** In slices, so that nobody else waits for a queue of thousands. */
  #passQueue(): void {
    for (const packet of this.#queue.splice(0, PACKETS_A_SLICE)) this.#pass(packet);
    if (this.#queue.length > 0) {
      setImmediate(() => this.#passQueue());
      return;
    }
    this.#queuedBytes = 0;
    (this.#target ?? this.#client).onceSent(() => this.#client.resume());
  }

  /** Answers false while the packet has to wait. */
  #pass(packet: Packet): boolean {
    if (this.#target !== null) this.#copy(packet, this.#client, this.#target);
    else if (this.#refusal !== null) this.#refuse(packet, this.#refusal);
    else return false;
    return true;
  }

  #refuse(packet: Packet, text: string): void {
    for (const answer of refuseChannel(packet.payload, text, this.#refused)) this.#client.send(answer);
    this.#refused += 1;
    this.#restrain(this.#client, this.#client);
  }

  #copy(packet: Packet, from: PacketLeg, to: PacketLeg): void {
    send(packet, to);
    this.#restrain(from, to);
  }

  /** Has `from` wait while `to` is behind with what it was sent. */
  #restrain(from: PacketLeg, to: PacketLeg): void {
    if (to.unsentBytes <= this.#limits.highWaterBytes || this.#paused.has(from)) return;
    this.#paused.add(from);
    from.pause();
    to.onceSent(() => {
      this.#paused.delete(from);
      from.resume();
    });
  }
}

function send(packet: Packet, to: PacketLeg): void {
  const opens = packet.type === SSH_MESSAGE.CHANNEL_OPEN || packet.type === SSH_MESSAGE.CHANNEL_OPEN_CONFIRMATION;
  const bounded = opens ? boundPacketSize(packet.payload) : null;
  if (bounded === null || bounded === packet.payload) to.relay(packet);
  else to.send(bounded);
}
