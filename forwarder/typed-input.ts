import type { Packet } from "./packet.ts";
import { SSH_MESSAGE } from "./ssh-messages.ts";

/** More terminals than one connection has. */
const MOST_TERMINALS = 1_024;

/** What is longer was not typed; it is use of the VM by its size. */
const TYPED_BYTES = 1_024;

/**
 * Knows which of a client's channels are terminals (RFC 4254 section 6.2), and so what a person types from what programs, such
 * as editors, send by themselves. Looks at the client's packets only, which name a channel by the VM's number.
 */
export class TypedInput {
  readonly #terminals = new Set<number>();

  /** Whether a packet of the client is input at a terminal. Every packet must pass here, in order. */
  isTyped(packet: Packet): boolean {
    switch (packet.type) {
      case SSH_MESSAGE.CHANNEL_REQUEST:
        if (this.#terminals.size < MOST_TERMINALS && asksForTerminal(packet.payload))
          this.#terminals.add(channelOf(packet.payload));
        return false;
      case SSH_MESSAGE.CHANNEL_CLOSE:
        this.#terminals.delete(channelOf(packet.payload));
        return false;
      case SSH_MESSAGE.CHANNEL_DATA:
        return this.#terminals.size > 0 && packet.length <= TYPED_BYTES && this.#terminals.has(channelOf(packet.payload));
      default:
        return false;
    }
  }
}

/** The recipient's number of a channel message; -1 when it is cut short. */
function channelOf(payload: Uint8Array): number {
  return payload.length < 5 ? -1 : viewOf(payload).getUint32(1);
}

function asksForTerminal(payload: Uint8Array): boolean {
  const name = "pty-req";
  if (payload.length < 9 + name.length || viewOf(payload).getUint32(5) !== name.length) return false;
  return Buffer.from(payload.subarray(9, 9 + name.length)).toString("latin1") === name;
}

function viewOf(payload: Uint8Array): DataView {
  return new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
}
