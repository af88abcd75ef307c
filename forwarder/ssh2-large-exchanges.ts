import { createHash, createPrivateKey, type KeyObject } from "node:crypto";
import { beginExchange, type HalfExchange, LARGE_GROUPS, type LargeGroup, signWithRsa } from "./large-groups.ts";
import type { LegReader } from "./leg-reader.ts";
import type { OffLoop } from "./off-loop.ts";
import { string } from "./ssh-wire.ts";
import { watchExchanges } from "./ssh2-exchanges.ts";
import { Ssh2Moved } from "./ssh2-moved.ts";

/**
 * Has the large computations of `ssh2` 1.17.0's key exchanges made off the event loop, which it would hold for milliseconds each: the
 * exchange waits, its connection's reader with it, and finds the results when it asks for them. Touches private fields, as
 * `packet-leg.ts` does; `test/forwarder/large-exchanges.test.ts` fails when they move.
 */

interface PrivateHostKey {
  readonly type: string;
  getPublicSSH(): Buffer;
  getPrivatePEM?(): string;
  sign(data: Buffer, algorithm?: string): Buffer | Error;
}

interface PrivateExchange {
  readonly negotiated: { readonly kex: string; readonly serverHostKey: string };
  readonly hashName: string;
  readonly _identRaw: Buffer;
  readonly _remoteIdentRaw: Buffer;
  readonly _kexinit: Buffer;
  readonly _remoteKexinit: Buffer;
  _public: Buffer | null;
  start(): void;
  parse(payload: Buffer): unknown;
  generateKeys(): void;
  convertPublicKey(key: Buffer): Buffer;
  computeSecret(key: Buffer): Buffer | Error;
  getPublicKey(): Buffer;
}

interface PrivateProtocol {
  readonly _server: boolean;
  _kex: unknown;
  readonly _hostKeys: Readonly<Record<string, PrivateHostKey>> | undefined;
}

/** The first messages of either side in all exchanges that are known here (RFC 4253 section 8, RFC 5656 section 4). */
const [INIT, REPLY] = [30, 31];
const LENGTH_BYTES = 4;
/** Its signatures take a millisecond, those of the other types a twentieth. */
const RSA = "ssh-rsa";

/** Must be called before the connection's first KEXINIT. */
export function moveOffLoop(protocol: object, reader: LegReader, offLoop: OffLoop): void {
  if (!isProtocol(protocol)) throw new Ssh2Moved(MOVED);
  watchExchanges(protocol, (exchange) => {
    if (!isExchange(exchange)) throw new Ssh2Moved(MOVED);
    const group = LARGE_GROUPS.get(exchange.negotiated.kex) ?? null;
    if (!protocol._server) {
      if (group !== null) askLater(exchange, group, reader, offLoop);
      return;
    }
    const key = protocol._hostKeys?.[exchange.negotiated.serverHostKey];
    if (group !== null || key?.type === RSA) answerLater(exchange, group, protocol, reader, offLoop);
  });
}

/** Makes this side's half before it is sent, and the secret before it is asked for. */
function askLater(exchange: PrivateExchange, group: LargeGroup, reader: LegReader, offLoop: OffLoop): void {
  exchange.parse = () => {
    throw new Error("an answer to what has not been asked yet");
  };
  exchange.start = () => {
    const begin = () => beginExchange(group);
    later(reader, offLoop, begin, (half) => {
      usePublic(exchange, half);
      uncover(exchange, "start");
      exchange.start();
      exchange.parse = (payload) => {
        uncover(exchange, "parse");
        const theirs =
          payload[0] === REPLY ? stringAfter(payload, 1 + (stringAfter(payload, 1)?.length ?? 0) + LENGTH_BYTES) : null;
        if (theirs === null) return exchange.parse(payload);
        const kept = Buffer.from(payload);
        const derive = async () => useSecret(exchange, await half.secretWith(theirs));
        return later(reader, offLoop, derive, () => exchange.parse(kept));
      };
    });
  };
}

/** Makes the half, the secret and an RSA signature before `ssh2` reads the message that has it make them. */
function answerLater(
  exchange: PrivateExchange,
  group: LargeGroup | null,
  protocol: PrivateProtocol,
  reader: LegReader,
  offLoop: OffLoop,
): void {
  exchange.parse = (payload) => {
    uncover(exchange, "parse");
    const theirs = payload[0] === INIT ? stringAfter(payload, 1) : null;
    if (theirs === null) return exchange.parse(payload);
    const kept = Buffer.from(payload);
    const answer = async () => {
      if (group === null) useSecret(exchange, exchange.computeSecret(theirs));
      else {
        const half = await beginExchange(group);
        usePublic(exchange, half);
        useSecret(exchange, await half.secretWith(theirs));
      }
      return signBefore(exchange, theirs, protocol);
    };
    return later(reader, offLoop, answer, (signature) => {
      prepared = signature;
      try {
        exchange.parse(kept);
      } finally {
        prepared = null;
      }
    });
  };
}

/** The connection reads on when `work` is done; a decipher that is answered `false` leaves what follows to it. */
function later<T>(reader: LegReader, offLoop: OffLoop, work: () => Promise<T>, use: (value: T) => void): false {
  // Who has left is not worth the work.
  const done = offLoop.run(async () => (reader.isGone ? null : { value: await work() }));
  reader.waitFor(done, (result) => {
    if (result !== null) use(result.value);
  });
  return false;
}

function usePublic(exchange: PrivateExchange, { publicBytes }: HalfExchange): void {
  exchange._public = publicBytes;
  exchange.generateKeys = () => undefined;
}

function useSecret(exchange: PrivateExchange, secret: Buffer | Error | null): void {
  exchange.computeSecret = () => secret ?? new Error("the other side's half is none");
}

/** Back to the method of its class. */
function uncover(exchange: PrivateExchange, method: "start" | "parse"): void {
  Reflect.deleteProperty(exchange, method);
}

interface Signature {
  readonly key: PrivateHostKey;
  readonly algorithm: "sha256" | "sha512";
  readonly data: Buffer;
  readonly signature: Buffer;
}

/** Only while the exchange is read that it was made for. */
let prepared: Signature | null = null;

/** Of host keys that take prepared signatures. */
const privateKeys = new WeakMap<PrivateHostKey, KeyObject>();

/** Signs what `ssh2` is about to sign; null when the host key is no RSA key, or there is no secret to sign for. */
async function signBefore(exchange: PrivateExchange, theirs: Buffer, protocol: PrivateProtocol): Promise<Signature | null> {
  const name = exchange.negotiated.serverHostKey;
  const shown = protocol._hostKeys?.[name];
  // A certificate's signature is made by the key that it is for.
  const key = protocol._hostKeys?.["rsa-sha2-512"];
  const secret = exchange.computeSecret(theirs);
  if (shown?.type !== RSA || key?.getPrivatePEM === undefined || secret instanceof Error) return null;
  const privateKey = privateKeys.get(key) ?? signPrepared(key, key.getPrivatePEM());
  const algorithm = name.startsWith("rsa-sha2-256") ? "sha256" : "sha512";
  const data = exchangeHash(exchange, shown.getPublicSSH(), theirs, secret);
  return { key, algorithm, data, signature: await signWithRsa(algorithm, data, privateKey) };
}

function signPrepared(key: PrivateHostKey, pem: string): KeyObject {
  const privateKey = createPrivateKey(pem);
  privateKeys.set(key, privateKey);
  const sign = key.sign;
  key.sign = (data, algorithm) => {
    const isPrepared = prepared?.key === key && prepared.algorithm === algorithm && prepared.data.equals(data);
    return isPrepared && prepared !== null ? prepared.signature : sign.call(key, data, algorithm);
  };
  return privateKey;
}

/** RFC 4253 section 8; should it come out otherwise than `ssh2`'s own, `ssh2` signs that itself. */
function exchangeHash(exchange: PrivateExchange, hostKey: Buffer, theirs: Buffer, secret: Buffer): Buffer {
  const { _remoteIdentRaw, _identRaw, _remoteKexinit, _kexinit } = exchange;
  const keys = [exchange.convertPublicKey(theirs), exchange.getPublicKey()];
  const hash = createHash(exchange.hashName);
  for (const part of [_remoteIdentRaw, _identRaw, _remoteKexinit, _kexinit, hostKey, ...keys, secret]) hash.update(string(part));
  return hash.digest();
}

/** The string at `offset`, in memory of its own; null when it is cut short. Anything may follow it. */
function stringAfter(payload: Buffer, offset: number): Buffer | null {
  if (payload.length < offset + LENGTH_BYTES) return null;
  const start = offset + LENGTH_BYTES;
  const end = start + payload.readUInt32BE(offset);
  return end > payload.length ? null : Buffer.from(payload.subarray(start, end));
}

const MOVED = "ssh2's private key exchange is not where 1.17.0 has it";

function isProtocol(value: object): value is PrivateProtocol {
  return typeof Reflect.get(value, "_server") === "boolean" && "_kex" in value && "_hostKeys" in value;
}

function isExchange(value: object): value is PrivateExchange {
  const methods = ["start", "parse", "generateKeys", "convertPublicKey", "computeSecret", "getPublicKey"];
  const bytes = ["_identRaw", "_remoteIdentRaw", "_kexinit", "_remoteKexinit"];
  return (
    methods.every((name) => typeof Reflect.get(value, name) === "function") &&
    bytes.every((name) => Reflect.get(value, name) instanceof Uint8Array) &&
    "_public" in value &&
    typeof Reflect.get(value, "hashName") === "string"
  );
}
