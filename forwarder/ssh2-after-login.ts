import { Ssh2Moved } from "./ssh2-moved.ts";

/**
 * Lets go of what `ssh2` 1.17.0 keeps for as long as a connection lives but needs only to begin it: half the memory of an
 * idle session. Touches its private fields, as `packet-leg.ts` does; `test/forwarder/ssh2-after-login.test.ts` fails when
 * they move.
 */

interface PrivateKex {
  readonly sessionID: Buffer;
  readonly negotiated: object;
  readonly remoteExtInfoEnabled: boolean;
}

interface PrivateProtocol {
  _kex: PrivateKex;
  _offer: object;
  readonly _kexinit: Buffer | undefined;
}

/** What connections offer in a key exchange, by what they were made with; `ssh2` makes one for each client. */
const offers = new Map<string, object>();

/**
 * To be called once the login is done. `sameOffer`: connections that name the same here were made with the same algorithms
 * and share what they offer; null where `ssh2` shares it already.
 */
export function settle(connection: object & NodeJS.EventEmitter, sameOffer: string | null): void {
  const protocol = readProtocol(connection);
  if (sameOffer !== null) {
    const offer = offers.get(sameOffer) ?? protocol._offer;
    offers.set(sameOffer, offer);
    protocol._offer = offer;
  }
  slimKex(protocol);
  // The event comes from inside of the exchange that is to be forgotten.
  connection.on("handshake", () => setImmediate(() => slimKex(protocol)));
}

/** Wipes a parsed key: what is needed of it is done. */
export function forgetKey(key: object): void {
  for (const symbol of Object.getOwnPropertySymbols(key)) Reflect.set(key, symbol, null);
}

/** Keeps of a finished key exchange what the session and the next exchange go on with (kex.js, Protocol.js). */
function slimKex(protocol: PrivateProtocol): void {
  if (protocol._kexinit !== undefined) return;
  const { sessionID, negotiated, remoteExtInfoEnabled } = protocol._kex;
  // Copied, since names that were cut out of the peer's offer keep all of it alive.
  protocol._kex = { sessionID, negotiated: JSON.parse(JSON.stringify(negotiated)), remoteExtInfoEnabled };
}

function readProtocol(connection: object): PrivateProtocol {
  const protocol: unknown = Reflect.get(connection, "_protocol");
  if (!isProtocol(protocol)) throw new Ssh2Moved("ssh2's private fields of a login are not where 1.17.0 has them");
  return protocol;
}

function isProtocol(value: unknown): value is PrivateProtocol {
  if (typeof value !== "object" || value === null) return false;
  const kex: unknown = Reflect.get(value, "_kex");
  if (!("_kexinit" in value) || typeof Reflect.get(value, "_offer") !== "object") return false;
  return typeof kex === "object" && kex !== null && "sessionID" in kex && "negotiated" in kex && "remoteExtInfoEnabled" in kex;
}
