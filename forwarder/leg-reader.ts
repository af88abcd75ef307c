import type { Duplex } from "node:stream";
import ssh2 from "ssh2";
import { type Turn, Turns } from "./turns.ts";

/**
 * Reads a connection's socket for `ssh2` 1.17.0 in turns with all other connections of the process. Touches its private
 * fields, as `packet-leg.ts` does; `test/forwarder/packet-leg.test.ts` fails when they move.
 */

/** Reads packets from a chunk up to `end`; answers where it stopped, or undefined when it has read all. */
type Parse = (chunk: Buffer, at: number, end: number) => number | undefined;

/** The fields of a protocol that a reader needs. */
export interface ReadProtocol {
  /** Replaced by `ssh2` once it has read the peer's identification. */
  _parse: Parse;
  /** Undefined once nothing may be read any more. */
  readonly _destruct: unknown;
  /** Sees to that; called once the socket has ended. */
  cleanup(): void;
}

/** Unread bytes at which the socket is no longer read; less is not worth the calls. */
const HOLD_BYTES = 262_144;

/** Up to here unread bytes are a packet or two that somebody waits for. Of more there is more to come, and together they cost less. */
const FEW_BYTES = 4_096;

const turns = new Turns(() => performance.now(), setImmediate);

const readers = new WeakMap<object, LegReader>();

/** One for all protocols: one of its own would cost each of them a shape of its own. */
const STEP: PropertyDescriptor & ThisType<object> = {
  get() {
    return readers.get(this)?.take;
  },
  set(parse: Parse) {
    readers.get(this)?.goOnWith(parse);
  },
};

/** `ssh2` ends a protocol with its socket; here what the socket has brought is read first, in turns as ever. */
function cleanupOnceRead(this: ReadProtocol): void {
  const { cleanup } = Object.getPrototypeOf(this) as ReadProtocol;
  const reader = readers.get(this);
  if (reader === undefined) cleanup.call(this);
  else reader.onceRead(() => cleanup.call(this));
}

export class LegReader {
  readonly #connection: object;
  readonly #protocol: ReadProtocol;
  readonly #socket: Duplex;
  readonly #turn: Turn;
  #parse: Parse;
  #chunks: { readonly chunk: Buffer; at: number; readonly end: number }[] = [];
  #unreadBytes = 0;
  #held = false;
  #paused = false;
  #isOver = () => false;
  /** How much that was ordered must be done before anything more is read. */
  #orders = 0;
  #results: (() => void)[] = [];
  #gone = false;
  /** A stranger who leaves in the middle of a key exchange is not owed its rest. */
  #owed: boolean;
  #ended = false;
  #onceRead: (() => void)[] = [];

  constructor(connection: object, protocol: ReadProtocol, socket: Duplex) {
    this.#connection = connection;
    this.#protocol = protocol;
    this.#socket = socket;
    this.#owed = connection instanceof ssh2.Client;
    this.#turn = turns.join((isOver) => this.#read(isOver), !this.#owed);
    this.#parse = protocol._parse;
    readers.set(protocol, this);
    Object.defineProperty(protocol, "_parse", STEP);
    protocol.cleanup = cleanupOnceRead;
    socket.once("close", () => {
      this.#ended = true;
      if (!this.#isOwedMore) this.#drop();
    });
  }

  /** Whether the packet that is just handed over is the last one of this turn. */
  get turnIsOver(): boolean {
    return this.#isOver();
  }

  /** Whether nothing is read any more. */
  get isGone(): boolean {
    return this.#gone;
  }

  /** Leaves what follows unread until `work` is done and `use`, in this connection's turn, has used what came of it. */
  waitFor<T>(work: Promise<T>, use: (value: T) => void): void {
    this.#orders += 1;
    const resume = (step: () => void) => {
      this.#orders -= 1;
      if (this.#gone || this.#protocol._destruct === undefined) return;
      this.#results.push(step);
      this.#turn.ask(false);
    };
    work.then(
      (value) => resume(() => use(value)),
      (error: unknown) =>
        resume(() => {
          throw error;
        }),
    );
  }

  /** `ssh2` wants what follows read another way. */
  goOnWith(parse: Parse): void {
    this.#parse = parse;
  }

  loggedIn(): void {
    this.#owed = true;
    this.#turn.known();
  }

  /** What has come and is not read yet will not be needed. */
  disown(): void {
    this.#owed = false;
  }

  /** Calls back once all that has come, and is owed to be read, has been: at once, or turns later when the peer left behind much. */
  onceRead(callback: () => void): void {
    if (this.#isOwedMore) this.#onceRead.push(callback);
    else callback();
  }

  /** What a connection waits for that has closed cannot come. */
  get #isOwedMore(): boolean {
    return this.#owed && this.#chunks.length > 0 && !(this.#ended && this.#orders > 0);
  }

  /** Calls back once all packets of this turn are handed over; soon, when none is being read. */
  afterTurn(callback: () => void): void {
    turns.afterPiece(callback);
  }

  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    if (!this.#held) this.#socket.resume();
  }

  /** In the place of `_parse`: `ssh2` takes undefined for "all read". */
  readonly take = (chunk: Buffer, at: number, end: number): undefined => {
    this.#chunks.push({ chunk, at, end });
    this.#unreadBytes += end - at;
    this.#turn.ask(this.#owed && this.#unreadBytes <= FEW_BYTES);
    if (this.#unreadBytes < HOLD_BYTES || this.#held) return;
    this.#held = true;
    this.#socket.pause();
  };

  #read(isOver: () => boolean): boolean {
    this.#isOver = isOver;
    for (const result of this.#results.splice(0)) this.#try(result);
    for (let [first] = this.#chunks; first !== undefined && this.#orders === 0; [first] = this.#chunks) {
      const { chunk, at, end } = first;
      const stopped = this.#try(() => this.#parse.call(this.#protocol, chunk, at, end));
      if (this.#protocol._destruct === undefined) this.#drop();
      else if (stopped === undefined || stopped >= end) this.#chunks.shift();
      else first.at = stopped;
      this.#unreadBytes = Math.max(0, this.#unreadBytes - ((stopped ?? end) - at));
      if (this.#chunks.length > 0 && isOver()) return false;
    }
    if (this.#orders > 0) return true;
    this.#release();
    if (this.#ended) this.#drop();
    else this.#tellRead();
    return true;
  }

  #tellRead(): void {
    for (const callback of this.#onceRead.splice(0)) callback();
  }

  // What ssh2 does itself with an error of the chunk that it is given.
  #try<T>(step: () => T): T | undefined {
    try {
      return step();
    } catch (error) {
      this.#chunks = [];
      if (isEmitter(this.#connection)) this.#connection.emit("error", error);
      if (this.#socket.writable) this.#socket.end();
      return undefined;
    }
  }

  #release(): void {
    if (!this.#held) return;
    this.#held = false;
    if (!this.#paused) this.#socket.resume();
  }

  #drop(): void {
    this.#gone = true;
    this.#chunks = [];
    this.#unreadBytes = 0;
    this.#turn.leave();
    this.#tellRead();
  }
}

function isEmitter(value: object): value is NodeJS.EventEmitter {
  return "emit" in value && typeof value.emit === "function";
}
