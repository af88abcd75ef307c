import type { Socket } from "node:net";
import type ssh2 from "ssh2";
import type { HostCertificate } from "./host-certificate.ts";
import type { ProofContext } from "./host-key-proof.ts";
import { readNameLists } from "./ssh-wire.ts";
import { Ssh2Moved } from "./ssh2-moved.ts";
import { KEXINIT_LISTS_AT, type PrivateOffer, withLists } from "./ssh2-offer.ts";

/**
 * What `ssh2` 1.17.0 cannot be asked in public around its handshake. Beside `packet-leg.ts` and `ssh2-hybrid-kex.ts` the only file that touches its
 * private fields before the login; `test/forwarder/ssh2-handshake.test.ts` fails when they move.
 */

interface PrivateKex {
  readonly sessionID: Buffer;
  readonly negotiated: { serverHostKey: string };
  /** The client's KEXINIT while its key exchange is under way. */
  readonly _remoteKexinit: Uint8Array | undefined;
}

interface PrivateHostKey {
  readonly type: string;
  getPublicSSH(): Buffer;
  sign(data: Buffer, algorithm?: string): Buffer | Error;
}

interface PrivateProtocol {
  _offer: PrivateOffer;
  _hostKeys: Readonly<Record<string, PrivateHostKey>>;
  readonly _kex: PrivateKex | undefined;
  readonly _kexinit: Buffer | undefined;
  _skipNextInboundPacket: boolean;
  rekey(): void;
}

/** What a proof of host keys is bound to. Only after the first key exchange. */
export function proofContext(connection: object): ProofContext {
  const kex = readProtocol(connection)._kex;
  if (!Buffer.isBuffer(kex?.sessionID) || typeof kex.negotiated.serverHostKey !== "string") throw new Ssh2Moved(MOVED);
  return { sessionId: kex.sessionID, hostKeyAlgorithm: kex.negotiated.serverHostKey };
}

/** Begins a key exchange unless one is under way (RFC 4253 section 9). */
export function rekey(connection: object): void {
  const protocol = readProtocol(connection);
  if (protocol._kexinit === undefined) protocol.rekey();
}

/**
 * Has a client's right guess at the key exchange used (RFC 4253 section 7). `ssh2` compares a letter with a name and takes
 * every guess for a wrong one, so that a client that guesses, as Dropbear's does, waits for an answer for ever. To be called
 * before the connection's first KEXINIT.
 */
export function keepRightGuesses(connection: object): void {
  Object.defineProperty(readProtocol(connection), "_skipNextInboundPacket", SKIPS);
}

const skipping = new WeakSet<PrivateProtocol>();

/** One for all protocols: one of its own would cost each of them a shape of its own. */
const SKIPS: PropertyDescriptor & ThisType<PrivateProtocol> = {
  get() {
    if (skipping.has(this) && guessedRight(this)) skipping.delete(this);
    return skipping.has(this);
  },
  set(value: boolean) {
    if (value) skipping.add(this);
    else skipping.delete(this);
  },
};

/** A guess is right when both sides prefer the same key exchange and the same host key. */
function guessedRight({ _kex, _offer }: PrivateProtocol): boolean {
  const kexinit = _kex?._remoteKexinit;
  if (kexinit === undefined) return false;
  const [kex, hostKey] = readNameLists(kexinit, KEXINIT_LISTS_AT, 2) ?? [];
  const { lists } = _offer;
  return kex?.[0] === lists.kex.array[0] && hostKey?.[0] === lists.serverHostKey.array[0];
}

/**
 * Offers certificates beside the plain host keys. `ssh2` knows no host certificates, but its key exchange only needs a key
 * that shows the certificate as its public half and signs as its plain type.
 */
export class CertificateOffer {
  readonly #certificates: readonly HostCertificate[];
  #offers: { readonly from: PrivateOffer; readonly to: PrivateOffer } | null = null;

  constructor(certificates: readonly HostCertificate[]) {
    this.#certificates = certificates;
  }

  /** Must be called before the connection's first KEXINIT, which is in the server's `connection` event. */
  apply(connection: object): void {
    if (this.#certificates.length === 0) return;
    const protocol = readProtocol(connection);
    // All connections of a server share one offer.
    if (this.#offers?.from !== protocol._offer) this.#offers = { from: protocol._offer, to: this.#extend(protocol._offer) };
    protocol._offer = this.#offers.to;
    const keys: Record<string, PrivateHostKey> = { ...protocol._hostKeys };
    for (const certificate of this.#certificates) {
      const plain = plainName(certificate.keyType);
      const key = protocol._hostKeys[plain];
      if (key === undefined) throw new Ssh2Moved(MOVED);
      keys[offeredName(certificate)] = {
        type: key.type,
        getPublicSSH: () => certificate.blob,
        sign: (data) => {
          const kex = protocol._kex;
          if (kex === undefined) throw new Ssh2Moved(MOVED);
          // Read right after the signature is made, to name it: a signature is named by the plain algorithm.
          kex.negotiated.serverHostKey = plain;
          return key.sign(data, plain === "rsa-sha2-512" ? "sha512" : undefined);
        },
      };
    }
    protocol._hostKeys = keys;
  }

  #extend(offer: PrivateOffer): PrivateOffer {
    return withLists(offer, { serverHostKey: [...this.#certificates.map(offeredName), ...offer.lists.serverHostKey.array] });
  }
}

/**
 * Hands a socket to an `ssh2` server whose identification line has been sent already: what comes first decides what a
 * connection is, and a client may wait for that line before it says anything.
 */
export function injectIdentified(server: ssh2.Server, socket: Socket, identification: Buffer): void {
  const write = socket.write;
  // ssh2's first write, a microtask later, is that line.
  socket.write = ((chunk: Uint8Array, ...rest: []) => {
    socket.write = write;
    return identification.equals(chunk) ? true : write.call(socket, chunk, ...rest);
  }) as typeof socket.write;
  server.injectSocket(socket);
}

const MOVED = "ssh2's private handshake fields are not where 1.17.0 has them";

/** RFC 8332 section 3.3: an RSA certificate is negotiated by the name of the signature. */
function offeredName({ algorithm }: HostCertificate): string {
  return algorithm.replace(/^ssh-rsa-/, "rsa-sha2-512-");
}

function plainName(keyType: string): string {
  return keyType === "ssh-rsa" ? "rsa-sha2-512" : keyType;
}

function readProtocol(connection: object): PrivateProtocol {
  const protocol: unknown = Reflect.get(connection, "_protocol");
  if (!isProtocol(protocol)) throw new Ssh2Moved(MOVED);
  return protocol;
}

function isProtocol(value: unknown): value is PrivateProtocol {
  if (typeof value !== "object" || value === null) return false;
  const offer: unknown = Reflect.get(value, "_offer");
  const known = ["_hostKeys", "_kex", "_kexinit", "_skipNextInboundPacket"].every((name) => name in value);
  return (
    known && typeof Reflect.get(value, "rekey") === "function" && typeof offer === "object" && offer !== null && "lists" in offer
  );
}
