import type { Socket } from "node:net";
import type { Result } from "../protocol/failures.ts";
import { freeing } from "../service/free.ts";
import { pump } from "../service/pump.ts";
import { type Companion, LifeOver, type MachineLife } from "./machine-life.ts";
import { acknowledged } from "./unacknowledged.ts";

export interface TunnelSpliceOptions {
  readonly life: MachineLife;
  /** TCP keepalive of both legs, in milliseconds; of the guest's only while it is awake to answer. */
  readonly keepaliveMs: number;
  /** Bytes of the client that are held for a guest that sleeps; beyond them they wait in the kernel, then at the client. */
  readonly heldBytes: number;
  /** How long the guest may take to acknowledge what was sent before it sleeps, in milliseconds. */
  readonly settleMs: number;
  /** Wakes the machine for bytes that came while it slept. */
  readonly wake: () => Promise<Result<unknown>>;
  /** The tunnel is about to be cut for a reason that is worth telling. */
  readonly onCut: (why: string) => void;
  /** Nobody is at the client's end any more. */
  readonly onClientGone: () => void;
  /** Both legs are gone. */
  readonly onClosed: () => void;
}

/**
 * Copies bytes both ways between a forwarder and a guest's sshd: backpressure passes through, and so does an end of file in
 * one direction while the other still flows; a broken leg breaks the other.
 *
 * It outlives the guest's sleep. Nothing is sent to a guest that sleeps, neither bytes nor an end nor a keepalive: it would not
 * acknowledge them, and the kernel gives such a connection up after a quarter of an hour (tcp(7), `tcp_retries2`). What the
 * client sends meanwhile is held and wakes the guest; a client that only leaves does not.
 */
export class TunnelSplice implements Companion {
  readonly #client: Socket;
  readonly #guest: Socket;
  readonly #options: TunnelSpliceOptions;
  readonly #leave: () => void;
  readonly #onLifeOver = () => this.#cutFor(reasonOf(this.#options.life.over));
  #held: Buffer[] = [];
  #heldBytes = 0;
  #asleep = false;
  #waking = false;
  /** What became of the client while the guest slept, and is still to be passed on. */
  #clientEnd: "ended" | "broke" | null = null;
  #open = 2;

  constructor(client: Socket, guest: Socket, options: TunnelSpliceOptions) {
    this.#client = client;
    this.#guest = guest;
    this.#options = options;
    for (const leg of [client, guest]) {
      leg.setKeepAlive(true, options.keepaliveMs);
      leg.setNoDelay(true);
      // Its close follows.
      leg.on("error", () => undefined);
      if (leg.closed) this.#open -= 1;
      else leg.on("close", (hadError) => this.#closed(leg, hadError));
    }
    this.#leave = options.life.join(this);
    options.life.over.addEventListener("abort", this.#onLifeOver, { once: true });
    client.on("data", (chunk: Buffer) => this.#fromClient(chunk));
    client.on("end", () => this.#clientLeft("ended"));
    guest.on("drain", () => this.#readClient());
    // So that the client's end is seen though nothing it sends has anywhere to go.
    guest.on("close", () => client.resume());
    pump(guest, client);
    client.resume();
    // Either may have gone while the other was prepared: then its events are past.
    if (client.destroyed) options.onClientGone();
    if (options.life.over.aborted) this.#onLifeOver();
    else if (client.destroyed || guest.destroyed) this.#cut();
    if (this.#open === 0) this.#finish();
  }

  async holdStill(): Promise<void> {
    this.#asleep = true;
    await acknowledged(this.#guest, this.#options.settleMs);
    if (this.#asleep) this.#guest.setKeepAlive(false);
  }

  goOn(): void {
    if (!this.#asleep) return;
    this.#asleep = false;
    this.#guest.setKeepAlive(true, this.#options.keepaliveMs);
    const held = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    let room = true;
    for (const chunk of held) room = this.#write(chunk);
    if (room) this.#client.resume();
    if (this.#clientEnd !== null) this.#clientLeft(this.#clientEnd);
  }

  #fromClient(chunk: Buffer): void {
    if (!this.#asleep) {
      if (!this.#write(chunk)) this.#client.pause();
      return;
    }
    this.#held.push(chunk);
    this.#heldBytes += chunk.length;
    if (this.#heldBytes >= this.#options.heldBytes) this.#client.pause();
    void this.#wake();
  }

  /** False: it is better to wait for `drain` before more is written. */
  #write(chunk: Buffer): boolean {
    return !this.#guest.writable || this.#guest.write(chunk, freeing(chunk));
  }

  #readClient(): void {
    if (this.#heldBytes < this.#options.heldBytes) this.#client.resume();
  }

  async #wake(): Promise<void> {
    if (this.#waking) return;
    this.#waking = true;
    let woken: Result<unknown>;
    // Again if it fell asleep again before it got them.
    do woken = await this.#options.wake();
    while (woken.ok && this.#asleep && this.#held.length > 0 && !this.#options.life.over.aborted);
    this.#waking = false;
    if (!woken.ok) this.#cutFor(woken.failure.message);
  }

  #clientLeft(how: "ended" | "broke"): void {
    if (this.#asleep) this.#clientEnd = how;
    else if (how === "ended") this.#guest.end();
    else this.#guest.destroy();
  }

  #closed(leg: Socket, hadError: boolean): void {
    this.#open -= 1;
    if (leg === this.#client) this.#options.onClientGone();
    // A leg that closed in order has passed its end on already; what the other still has to send may take its time.
    if (hadError && leg === this.#client) this.#clientLeft("broke");
    else if (hadError) this.#client.destroy();
    if (this.#open === 0) this.#finish();
  }

  #cutFor(why: string): void {
    if (this.#open === 2) this.#options.onCut(why);
    this.#cut();
  }

  #cut(): void {
    this.#client.destroy();
    this.#guest.destroy();
  }

  #finish(): void {
    this.#leave();
    this.#options.life.over.removeEventListener("abort", this.#onLifeOver);
    this.#options.onClosed();
  }
}

function reasonOf(over: AbortSignal): string {
  const { reason } = over as { reason: unknown };
  return reason instanceof LifeOver ? reason.message : "The VM went down.";
}
