import type { Packet } from "../../../forwarder/packet.ts";
import type { PacketLeg } from "../../../forwarder/packet-leg.ts";

/** A leg in memory, whose peer takes what was sent only when told to. */
export class MemoryLeg implements PacketLeg {
  readonly sent: Buffer[] = [];
  unsentBytes = 0;
  paused = false;
  #waiting: (() => void)[] = [];

  send(payload: Uint8Array): void {
    this.sent.push(Buffer.from(payload));
    this.unsentBytes += payload.length;
  }

  relay(packet: Packet): void {
    this.send(packet.payload);
    packet.release();
  }

  sendNow(payload: Uint8Array): void {
    this.send(payload);
  }

  loggedIn(): void {
    // Every packet is taken.
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
  }

  onceSent(callback: () => void): void {
    this.#waiting.push(callback);
  }

  onceRead(callback: () => void): void {
    callback();
  }

  close(): void {
    this.paused = false;
  }

  /** The peer takes everything. */
  drain(): void {
    this.unsentBytes = 0;
    for (const callback of this.#waiting.splice(0)) callback();
  }
}
