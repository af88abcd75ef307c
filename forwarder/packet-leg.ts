import { createRequire } from "node:module";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import ssh2 from "ssh2";
import { freeing } from "../service/free.ts";
import { LARGE_PACKET_BYTES, USUAL_PACKET_BYTES } from "./gcm.ts";
import { LegReader, type ReadProtocol } from "./leg-reader.ts";
import { OffLoop } from "./off-loop.ts";
import { Packet } from "./packet.ts";
import { isConnectionMessage } from "./ssh-messages.ts";
import { GcmSealer, type PrivateDecipher, replaceDecipher } from "./ssh2-gcm.ts";
import { moveOffLoop } from "./ssh2-large-exchanges.ts";
import { Ssh2Moved } from "./ssh2-moved.ts";

/**
 * With `leg-reader.ts`, `ssh2-gcm.ts` and `ssh2-handshake.ts` the only file that touches private fields of `ssh2` (pinned to 1.17.0): it takes
 * connection-protocol packets from one authenticated SSH connection and puts packets into it, below `ssh2`'s channels.
 * `test/forwarder/packet-leg.test.ts` fails when those fields move.
 */
export interface PacketLeg {
  /** Sends one payload, which is copied. During a key exchange it waits (RFC 4253 section 7.1). Dropped once closed. */
  send(payload: Uint8Array): void;
  /** Sends a packet on as `send` would its payload, without copying it where the cipher allows it, and releases it. */
  relay(packet: Packet): void;
  /** Sends one payload at once, even in the middle of a key exchange; only for DISCONNECT. */
  sendNow(payload: Uint8Array): void;
  /**
   * Takes packets as large as OpenSSH takes them from now on, under AES-GCM: before the login nobody may have so much kept
   * for him, after it a command may be that long. And all of what was sent is read, also when the peer has left since.
   */
  loggedIn(): void;
  /** Bytes handed to `send` that have not left this process. */
  readonly unsentBytes: number;
  pause(): void;
  resume(): void;
  /** Calls back once, when everything handed to `send` has left this process. */
  onceSent(callback: () => void): void;
  /** Calls back once all that the peer sent has been handed over: at once, unless it left behind much and is gone. */
  onceRead(callback: () => void): void;
  /** Flushes and closes the socket; what has come and is not read yet is dropped; after `lingerMs` it is destroyed if the peer has not taken the rest. */
  close(lingerMs: number): void;
}

interface PrivateWriter {
  readonly allocStart: number;
  readonly allocStartKEX: number;
  alloc(length: number, force?: boolean): Buffer;
  finalize(packet: Buffer, force?: boolean): Buffer;
}

interface PrivateProtocol extends ReadProtocol {
  _onPayload: (payload: Buffer) => boolean | number | undefined;
  _decipher: PrivateDecipher | undefined;
  readonly _cipher: object;
  readonly _kexinit: Buffer | undefined;
  readonly _packetRW: { readonly write: PrivateWriter };
}

type SendPacket = (protocol: PrivateProtocol, packet: Buffer, bypass?: boolean) => boolean;

const NOTHING = Buffer.alloc(0);

/** What `ssh2` has answered, to requests for a login most likely, and its client has not taken. */
const MAX_UNSENT_ANSWERS_BYTES = 65_536;

/** One, so that even on two cores the event loop has one of its own whatever strangers order; others who ordered some wait. */
const LARGE_EXCHANGES_AT_ONCE = 1;
const offLoop = new OffLoop(LARGE_EXCHANGES_AT_ONCE);

const sendPacket = readSendPacket(createRequire(import.meta.url)("ssh2/lib/protocol/utils.js"));

// Its keepalive requests would be answered by the client, the answers relayed to the VM, and the session timed out.
ssh2.Server.KEEPALIVE_CLIENT_INTERVAL = 0;

/** The socket that a server-side connection runs on. */
export function socketOf(connection: object): Socket | null {
  const socket: unknown = Reflect.get(connection, "_sock");
  return isSocket(socket) ? socket : null;
}

/**
 * Hooks into a connection before its first key exchange ends. `onPacket` gets every packet of types 80 to 127, whose payload
 * may be a view into a buffer that is used again: `keep` what is kept. All other types still go to `ssh2`.
 */
export function attachLeg(connection: object, socket: Duplex, onPacket: (packet: Packet) => void): PacketLeg {
  const protocol = readProtocol(connection);
  const original = protocol._onPayload;
  const bounds: Bounds = { maxPacketBytes: USUAL_PACKET_BYTES };
  const reader = new LegReader(connection, protocol, socket);
  moveOffLoop(protocol, reader, offLoop);
  // Answers like a decipher's `_onPayload`: undefined to go on, false to stop behind this packet.
  const goOn = () => (reader.turnIsOver ? false : undefined);
  const take = (packet: Packet): boolean => {
    if (!isConnectionMessage(packet.type)) return false;
    onPacket(packet);
    return true;
  };
  // Decipherers of later key exchanges are given this same field (ssh2/lib/protocol/kex.js, completeHandshake).
  const hook = (payload: Buffer): boolean | number | undefined => {
    // Any answer but undefined has the decipher leave what follows in the same chunk to whatever is the decipher then.
    const taken = take(Packet.ofPayload(payload));
    const answer = taken ? undefined : original(payload);
    if (answer !== undefined) return answer;
    // What ssh2 answers by itself is bounded by nothing else.
    if (!taken && socket.writableLength > MAX_UNSENT_ANSWERS_BYTES) {
      reader.waitFor(sent(socket), () => undefined);
      return false;
    }
    const decipher = protocol._decipher;
    const replaced = decipher?._onPayload === hook ? replaceDecipher(decipher, take, goOn, bounds) : null;
    if (replaced === null) return goOn();
    protocol._decipher = replaced;
    return false;
  };
  protocol._onPayload = hook;
  return new Ssh2Leg(connection, protocol, socket, reader, bounds);
}

interface Bounds {
  maxPacketBytes: number;
}

class Ssh2Leg implements PacketLeg {
  readonly #protocol: PrivateProtocol;
  readonly #socket: Duplex;
  readonly #reader: LegReader;
  readonly #bounds: Bounds;
  #heldBytes = 0;
  #corked = false;
  #waiting: (() => void)[] = [];
  /** Of the cipher that was in use last. */
  #sealer: { readonly cipher: object; readonly gcm: GcmSealer | null } | null = null;

  constructor(connection: object, protocol: PrivateProtocol, socket: Duplex, reader: LegReader, bounds: Bounds) {
    this.#protocol = protocol;
    this.#socket = socket;
    this.#reader = reader;
    this.#bounds = bounds;
    if (isEmitter(connection)) connection.on("handshake", () => this.#released());
  }

  loggedIn(): void {
    this.#bounds.maxPacketBytes = LARGE_PACKET_BYTES;
    this.#reader.loggedIn();
  }

  get unsentBytes(): number {
    return this.#socket.writableLength + this.#heldBytes;
  }

  send(payload: Uint8Array): void {
    if (!this.#socket.writable) return;
    this.#cork();
    if (this.#protocol._kexinit !== undefined) this.#heldBytes += payload.length;
    const writer = this.#protocol._packetRW.write;
    const start = writer.allocStart;
    const packet = writer.alloc(payload.length);
    packet.set(payload, start);
    sendPacket(this.#protocol, writer.finalize(packet));
  }

  relay(packet: Packet): void {
    const { plaintext } = packet;
    const gcm = plaintext === null || this.#protocol._kexinit !== undefined ? null : this.#currentSealer();
    if (plaintext === null || gcm === null) this.send(packet.payload);
    else if (this.#socket.writable) {
      this.#cork();
      gcm.send(plaintext, this.#write);
    }
    packet.release();
  }

  readonly #write = (bytes: Uint8Array): void => {
    this.#socket.write(bytes, freeing(bytes));
  };

  sendNow(payload: Uint8Array): void {
    if (!this.#socket.writable) return;
    const writer = this.#protocol._packetRW.write;
    const start = writer.allocStartKEX;
    const packet = writer.alloc(payload.length, true);
    packet.set(payload, start);
    sendPacket(this.#protocol, writer.finalize(packet, true), true);
  }

  pause(): void {
    this.#reader.pause();
  }

  resume(): void {
    this.#reader.resume();
  }

  onceSent(callback: () => void): void {
    if (this.#heldBytes > 0) this.#waiting.push(callback);
    else this.#socket.write(NOTHING, () => callback());
  }

  onceRead(callback: () => void): void {
    this.#reader.onceRead(callback);
  }

  close(lingerMs: number): void {
    this.#reader.disown();
    const timer = setTimeout(() => this.#socket.destroy(), lingerMs);
    this.#socket.once("close", () => clearTimeout(timer));
    // A paused socket never sees its peer's end.
    this.#reader.resume();
    this.#socket.end();
  }

  #currentSealer(): GcmSealer | null {
    const cipher = this.#protocol._cipher;
    if (this.#sealer?.cipher !== cipher) this.#sealer = { cipher, gcm: GcmSealer.of(cipher) };
    return this.#sealer.gcm;
  }

  // ssh2 writes a packet in three or four pieces; gathered per turn they are one system call.
  #cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.#socket.cork();
    this.#reader.afterTurn(this.#uncork);
  }

  readonly #uncork = (): void => {
    this.#corked = false;
    this.#socket.uncork();
  };

  // ssh2 has just sent what it held during the key exchange.
  #released(): void {
    this.#heldBytes = 0;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const callback of waiting) this.onceSent(callback);
  }
}

function sent(socket: Duplex): Promise<void> {
  return new Promise((resolve) => {
    socket.write(NOTHING, () => resolve());
  });
}

function readProtocol(connection: object): PrivateProtocol {
  const protocol: unknown = Reflect.get(connection, "_protocol");
  if (!isProtocol(protocol)) throw new Ssh2Moved("ssh2's private protocol fields are not where 1.17.0 has them");
  return protocol;
}

function isProtocol(value: unknown): value is PrivateProtocol {
  if (typeof value !== "object" || value === null) return false;
  if (!("_onPayload" in value) || typeof value._onPayload !== "function" || !("_kexinit" in value)) return false;
  if (typeof Reflect.get(value, "_parse") !== "function" || !("_destruct" in value)) return false;
  if (typeof Reflect.get(value, "cleanup") !== "function") return false;
  if (!("_decipher" in value) || !("_cipher" in value) || typeof value._cipher !== "object") return false;
  if (!("_packetRW" in value) || typeof value._packetRW !== "object" || value._packetRW === null) return false;
  const writer: unknown = Reflect.get(value._packetRW, "write");
  if (typeof writer !== "object" || writer === null) return false;
  return ["alloc", "finalize"].every((name) => typeof Reflect.get(writer, name) === "function");
}

function readSendPacket(utils: unknown): SendPacket {
  const found: unknown = typeof utils === "object" && utils !== null ? Reflect.get(utils, "sendPacket") : undefined;
  if (typeof found !== "function") throw new Ssh2Moved("ssh2's sendPacket is not where 1.17.0 has it");
  return found as SendPacket;
}

function isSocket(value: unknown): value is Socket {
  return typeof value === "object" && value !== null && "remoteAddress" in value && "setNoDelay" in value;
}

function isEmitter(value: object): value is NodeJS.EventEmitter {
  return "on" in value && typeof value.on === "function";
}
