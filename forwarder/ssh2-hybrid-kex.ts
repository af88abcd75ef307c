import { answerHybrid, HYBRID_KEX, hybridKexSupported } from "./hybrid-kex.ts";
import { string } from "./ssh-wire.ts";
import { watchExchanges } from "./ssh2-exchanges.ts";
import { Ssh2Moved } from "./ssh2-moved.ts";
import { KEXINIT_LISTS_AT, type PrivateOffer, withLists } from "./ssh2-offer.ts";

/**
 * Teaches a server of `ssh2` 1.17.0 one more key exchange. `ssh2` chooses the class of an exchange by its name and knows no way to
 * add one; so a client that wants the hybrid is shown to it as one that wants the X25519 it knows, and the exchange that comes
 * out of that is given the hybrid's three computations. The hash binds what the client really sent.
 * `test/forwarder/hybrid-kex.test.ts` fails when what is private here moves.
 */

/** Same hash, same messages, so that only key, reply and secret differ. */
const STAND_IN = "curve25519-sha256";

const KEXINIT = 20;

interface PrivateReader {
  read(payload: Buffer): Buffer;
  cleanup(): void;
}

interface PrivateExchange {
  _remoteKexinit: Buffer;
  negotiated: { kex: string };
  convertPublicKey(key: Buffer): Buffer;
  computeSecret(key: Buffer): Buffer | Error;
  getPublicKey(): Buffer;
}

interface PrivateProtocol {
  _offer: PrivateOffer;
  _kex: unknown;
  readonly _packetRW: { read: PrivateReader };
}

/** Offers the hybrid exchange before all others, where this Node has it. */
export class HybridOffer {
  #offers: { readonly from: PrivateOffer; readonly to: PrivateOffer } | null = null;

  /** Must be called before the connection's first KEXINIT, which is in the server's `connection` event. */
  apply(connection: object): void {
    if (!hybridKexSupported()) return;
    const protocol = readProtocol(connection);
    // All connections of a server share one offer.
    if (this.#offers?.from !== protocol._offer) {
      const { kex } = protocol._offer.lists;
      this.#offers = { from: protocol._offer, to: withLists(protocol._offer, { kex: [HYBRID_KEX, ...kex.array] }) };
    }
    protocol._offer = this.#offers.to;
    translate(protocol);
  }
}

function translate(protocol: PrivateProtocol): void {
  let sent: Buffer | null = null;
  let reader = protocol._packetRW.read;
  const translating: PrivateReader = {
    read: (payload) => {
      const read = reader.read(payload);
      if (read[0] !== KEXINIT) return read;
      const shown = asStandIn(read, protocol._offer.lists.kex.array);
      // What ssh2 reads may lie in a buffer that the next packet overwrites.
      sent = shown === null ? null : Buffer.from(read);
      return shown ?? read;
    },
    cleanup: () => reader.cleanup(),
  };
  Object.defineProperty(protocol._packetRW, "read", {
    get: () => translating,
    // With the keys of every exchange.
    set: (next: PrivateReader) => {
      reader = next;
    },
  });
  watchExchanges(protocol, (exchange) => {
    if (sent === null) return;
    if (!isExchange(exchange)) throw new Ssh2Moved(MOVED);
    makeHybrid(exchange, sent);
    sent = null;
  });
}

/**
 * A KEXINIT whose first key exchange that we know is the hybrid, as one whose first is the stand-in; null for any other. A guess
 * at something else stays wrong (RFC 4253 section 7).
 */
function asStandIn(kexinit: Buffer, ours: readonly string[]): Buffer | null {
  const at = KEXINIT_LISTS_AT;
  if (kexinit.length < at + 4) return null;
  const end = at + 4 + kexinit.readUInt32BE(at);
  if (end > kexinit.length) return null;
  const theirs = kexinit.toString("latin1", at + 4, end).split(",");
  if (theirs.find((name) => ours.includes(name) && !isMarker(name)) !== HYBRID_KEX) return null;
  const [guess] = theirs;
  const shown = [guess === HYBRID_KEX || guess === undefined ? [] : [guess], STAND_IN, theirs.filter(isMarker)].flat();
  return Buffer.concat([kexinit.subarray(0, at), string(shown.join(",")), kexinit.subarray(end)]);
}

/** Names in the list that are no key exchange (RFC 8308 section 2.1, OpenSSH's PROTOCOL section 1.9). */
function isMarker(name: string): boolean {
  return name.startsWith("ext-info-") || name.startsWith("kex-strict-");
}

function makeHybrid(exchange: PrivateExchange, sent: Buffer): void {
  let reply: Buffer = Buffer.alloc(0);
  exchange._remoteKexinit = sent;
  exchange.negotiated.kex = HYBRID_KEX;
  exchange.convertPublicKey = (key) => key;
  exchange.computeSecret = (key) => {
    const answer = answerHybrid(key);
    if (answer === null) return new Error("the client's key is no ML-KEM-768 and X25519 key");
    reply = answer.reply;
    return answer.secret;
  };
  // ssh2 asks for it after the secret.
  exchange.getPublicKey = () => reply;
}

const MOVED = "ssh2's private key exchange is not where 1.17.0 has it";

function readProtocol(connection: object): PrivateProtocol {
  const protocol: unknown = Reflect.get(connection, "_protocol");
  if (!isProtocol(protocol)) throw new Ssh2Moved(MOVED);
  return protocol;
}

function isProtocol(value: unknown): value is PrivateProtocol {
  if (typeof value !== "object" || value === null || !("_kex" in value)) return false;
  const packets: unknown = Reflect.get(value, "_packetRW");
  const reader: unknown = typeof packets === "object" && packets !== null ? Reflect.get(packets, "read") : null;
  const offer: unknown = Reflect.get(value, "_offer");
  const reads = typeof reader === "object" && reader !== null && typeof Reflect.get(reader, "read") === "function";
  return reads && typeof offer === "object" && offer !== null && "lists" in offer;
}

function isExchange(value: unknown): value is PrivateExchange {
  if (typeof value !== "object" || value === null || !Buffer.isBuffer(Reflect.get(value, "_remoteKexinit"))) return false;
  const computations = ["convertPublicKey", "computeSecret", "getPublicKey"];
  return Reflect.get(value, "type") === "25519" && computations.every((name) => typeof Reflect.get(value, name) === "function");
}
