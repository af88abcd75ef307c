import type { Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { CertificateOffer, keepRightGuesses, proofContext, rekey } from "../../forwarder/ssh2-handshake.ts";
import { Ssh2Moved } from "../../forwarder/ssh2-moved.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { CLIENT_LINE, exchangeInit, KEX_REPLY, kexinit, packet, rawConnection, readUpTo } from "./support/raw-kex.ts";

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

const hostKey = generateSshKeyPair(platformRandomBytes);

async function connected(): Promise<Socket> {
  const { socket, close } = await rawConnection(hostKey.privateKey, keepRightGuesses);
  closing.push(close);
  return socket;
}

/** The client's half of curve25519 (RFC 8731): any 32 bytes are a public key. */
const HALF = packet(exchangeInit(Buffer.alloc(32, 9)));

/** The types of the server's packets up to its answer to the key exchange. */
async function typesUpToReply(socket: Socket): Promise<(number | undefined)[]> {
  return (await readUpTo(socket, KEX_REPLY)).payloads.map((payload) => payload[0]);
}

/** What a client sends that guesses: its line, its lists, its guess and what comes after a wrong one. */
function guessing(kex: string, hostKeys: string, ...packets: Buffer[]): Buffer {
  return Buffer.concat([Buffer.from(`${CLIENT_LINE}\r\n`), packet(kexinit(kex, hostKeys, true)), ...packets]);
}

test("a client that guesses the key exchange rightly is answered", async () => {
  const socket = await connected();
  socket.write(guessing("curve25519-sha256", "ssh-ed25519", HALF));
  expect(await typesUpToReply(socket)).toContain(KEX_REPLY);
});

test.each([
  ["the key exchange", "diffie-hellman-group14-sha1,curve25519-sha256", "ssh-ed25519"],
  ["the host key", "curve25519-sha256", "ssh-dss,ssh-ed25519"],
])("a wrong guess at %s is skipped, and what is sent after it is answered", async (_what, kex, hostKeys) => {
  const socket = await connected();
  socket.write(guessing(kex, hostKeys, packet(exchangeInit(Buffer.alloc(5))), HALF));
  expect(await typesUpToReply(socket)).toContain(KEX_REPLY);
});

test.each([
  ["no protocol", {}],
  ["another protocol", { _protocol: { _offer: {}, _hostKeys: {} } }],
])("a connection with %s is noticed", (_what, connection) => {
  const certificate = { algorithm: "ssh-ed25519-cert-v01@openssh.com", keyType: "ssh-ed25519", blob: Buffer.alloc(1) };
  expect(() => proofContext(connection)).toThrow(Ssh2Moved);
  expect(() => rekey(connection)).toThrow(Ssh2Moved);
  expect(() => keepRightGuesses(connection)).toThrow(Ssh2Moved);
  expect(() => new CertificateOffer([certificate]).apply(connection)).toThrow(Ssh2Moved);
});
