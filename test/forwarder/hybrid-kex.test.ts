import * as crypto from "node:crypto";
import { afterEach, expect, test } from "vitest";
import { answerHybrid, HYBRID_KEX } from "../../forwarder/hybrid-kex.ts";
import { readNameLists, readStrings, string } from "../../forwarder/ssh-wire.ts";
import { keepRightGuesses } from "../../forwarder/ssh2-handshake.ts";
import { HybridOffer } from "../../forwarder/ssh2-hybrid-kex.ts";
import { Ssh2Moved } from "../../forwarder/ssh2-moved.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { CLIENT_LINE, exchangeInit, KEX_REPLY, kexinit, packet, rawConnection, readUpTo } from "./support/raw-kex.ts";

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

const hostKey = generateSshKeyPair(platformRandomBytes);
const DISCONNECT = 1;

/** A client's keys, and what it sends of them (`C_INIT`). */
function clientKeys() {
  const kem = crypto.generateKeyPairSync("ml-kem-768");
  const x25519 = crypto.generateKeyPairSync("x25519");
  const init = Buffer.concat([raw(kem.publicKey, 1184), raw(x25519.publicKey, 32)]);
  return { kem, x25519, init };
}

function raw(key: crypto.KeyObject, length: number): Buffer {
  return key.export({ format: "der", type: "spki" }).subarray(-length);
}

/** The client's side of the draft: what both must have come to. */
function secretOf({ kem, x25519 }: ReturnType<typeof clientKeys>, reply: Buffer): Buffer {
  const jwk = { kty: "OKP", crv: "X25519", x: reply.subarray(1088).toString("base64url") };
  const publicKey = crypto.createPublicKey({ key: jwk, format: "jwk" });
  const classical = crypto.diffieHellman({ privateKey: x25519.privateKey, publicKey });
  const shared = crypto.decapsulate(kem.privateKey, reply.subarray(0, 1088));
  return crypto
    .createHash("sha256")
    .update(Buffer.concat([shared, classical]))
    .digest();
}

async function exchange(lists: string, guesses: boolean, ...packets: Buffer[]) {
  const hybrid = new HybridOffer();
  const { socket, close } = await rawConnection(hostKey.privateKey, (connection) => {
    hybrid.apply(connection);
    keepRightGuesses(connection);
  });
  closing.push(close);
  const sent = kexinit(lists, "ssh-ed25519", guesses);
  socket.write(Buffer.concat([Buffer.from(`${CLIENT_LINE}\r\n`), packet(sent), ...packets.map(packet)]));
  const { line, payloads } = await readUpTo(socket, KEX_REPLY);
  const of = (type: number) => payloads.find((payload) => payload[0] === type);
  return { sent, line, kexinit: of(20), reply: of(KEX_REPLY), disconnect: of(DISCONNECT) };
}

/** Whether the host's signature is over the hash (RFC 4253 section 8) of all that the client saw and the secret it came to. */
function proves(keys: ReturnType<typeof clientKeys>, seen: Awaited<ReturnType<typeof exchange>>): boolean {
  const [hostBlob, answer, signature] = readStrings(seen.reply ?? Buffer.alloc(0), 1) ?? [];
  if (hostBlob === undefined || answer === undefined || signature === undefined || seen.kexinit === undefined) return false;
  const bound = [CLIENT_LINE, seen.line, seen.sent, seen.kexinit, hostBlob, keys.init, answer, secretOf(keys, answer)];
  const hash = crypto
    .createHash("sha256")
    .update(Buffer.concat(bound.map((part) => string(part))))
    .digest();
  const jwk = { kty: "OKP", crv: "Ed25519", x: hostBlob.subarray(-32).toString("base64url") };
  const publicKey = crypto.createPublicKey({ key: jwk, format: "jwk" });
  return crypto.verify(null, hash, publicKey, signature.subarray(-64));
}

test("the hybrid of ML-KEM and X25519 is offered before all other key exchanges", async () => {
  const seen = await exchange("none-of-ours", false);
  expect(readNameLists(seen.kexinit ?? Buffer.alloc(0), 17, 1)?.[0]?.slice(0, 2)).toEqual([HYBRID_KEX, "curve25519-sha256"]);
});

test.each([
  ["that knows nothing else", HYBRID_KEX],
  ["that prefers it", `${HYBRID_KEX},curve25519-sha256,ext-info-c`],
  ["that prefers one which we do not have", `sntrup761x25519-sha512,${HYBRID_KEX},curve25519-sha256,kex-strict-c-v00@openssh.com`],
])("a client %s comes to the same secret, and the host's signature binds it and all that was sent", async (_who, lists) => {
  const keys = clientKeys();
  expect(proves(keys, await exchange(lists, false, exchangeInit(keys.init)))).toBe(true);
});

test("a right guess at it is used, and a wrong one skipped", async () => {
  const keys = clientKeys();
  expect(proves(keys, await exchange(`${HYBRID_KEX},curve25519-sha256`, true, exchangeInit(keys.init)))).toBe(true);
  const packets = [exchangeInit(Buffer.alloc(5)), exchangeInit(keys.init)];
  expect(proves(keys, await exchange(`sntrup761x25519-sha512,${HYBRID_KEX}`, true, ...packets))).toBe(true);
});

test("a client that prefers another exchange of ours gets that one", async () => {
  const { reply } = await exchange(`curve25519-sha256,${HYBRID_KEX}`, false, exchangeInit(Buffer.alloc(32, 9)));
  expect(readStrings(reply ?? Buffer.alloc(0), 1)?.[1]).toHaveLength(32);
});

const good = clientKeys().init;
test.each([
  ["no key", Buffer.alloc(0)],
  ["an X25519 key alone", good.subarray(1184)],
  ["a byte too few", good.subarray(1)],
  ["a byte too many", Buffer.concat([good, Buffer.of(0)])],
  ["an ML-KEM key whose numbers are not below the modulus", Buffer.concat([Buffer.alloc(1184, 0xff), good.subarray(1184)])],
  ["an X25519 point of small order", Buffer.concat([good.subarray(0, 1184), Buffer.alloc(32)])],
])("%s ends the connection without an answer", async (_what, init) => {
  expect(answerHybrid(init)).toBeNull();
  const { reply, disconnect } = await exchange(HYBRID_KEX, false, exchangeInit(init));
  expect(reply).toBeUndefined();
  expect(disconnect?.readUInt32BE(1)).toBe(3);
});

test.each([{}, { _protocol: { _offer: { lists: {} }, _kex: undefined } }])(
  "a connection that is not ssh2's is noticed",
  (connection) => {
    expect(() => new HybridOffer().apply(connection)).toThrow(Ssh2Moved);
  },
);
