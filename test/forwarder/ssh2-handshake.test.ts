import { type AddressInfo, createServer, connect as dial, type Socket } from "node:net";
import ssh2 from "ssh2";
import { afterEach, expect, test } from "vitest";
import { clientAlgorithms } from "../../forwarder/algorithms.ts";
import { Ssh2Moved } from "../../forwarder/packet-leg.ts";
import { string, uint32 } from "../../forwarder/ssh-wire.ts";
import { CertificateOffer, keepRightGuesses, proofContext, rekey } from "../../forwarder/ssh2-handshake.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

const hostKey = generateSshKeyPair(platformRandomBytes);

/** A server of `ssh2` as the forwarder sets it up; answers a socket to it. */
async function connected(): Promise<Socket> {
  const server = new ssh2.Server(
    { hostKeys: [hostKey.privateKey], algorithms: clientAlgorithms(["aes128-ctr"]) },
    keepRightGuesses,
  );
  server.on("error", () => undefined);
  const listener = createServer((socket) => server.injectSocket(socket));
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const socket = dial((listener.address() as AddressInfo).port, "127.0.0.1");
  closing.push(() => {
    socket.destroy();
    listener.close();
  });
  return socket;
}

/** A packet before the first keys (RFC 4253 section 6). */
function packet(payload: Buffer): Buffer {
  const padding = 8 - ((5 + payload.length) % 8) + 8;
  return Buffer.concat([uint32(1 + payload.length + padding), Buffer.of(padding), payload, Buffer.alloc(padding)]);
}

/** A KEXINIT that a guess follows. */
function kexinit(kex: string, hostKeys: string): Buffer {
  const lists = [kex, hostKeys, "aes128-ctr", "aes128-ctr", "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""];
  return packet(Buffer.concat([Buffer.of(20), Buffer.alloc(16, 7), ...lists.map((list) => string(list)), Buffer.of(1), uint32(0)]));
}

/** The client's half of curve25519 (RFC 8731): any 32 bytes are a public key. */
const HALF = packet(Buffer.concat([Buffer.of(30), string(Buffer.alloc(32, 9))]));

const KEX_REPLY = 31;

/** The types of the server's packets up to its answer to the key exchange. */
async function typesUpToReply(socket: Socket): Promise<number[]> {
  let read = Buffer.alloc(0);
  for await (const chunk of socket) {
    read = Buffer.concat([read, Buffer.from(chunk as Uint8Array)]);
    const types: number[] = [];
    let at = read.indexOf("\n") + 1;
    while (at > 0 && at + 6 <= read.length) {
      types.push(read.readUInt8(at + 5));
      at += 4 + read.readUInt32BE(at);
    }
    if (types.includes(KEX_REPLY)) return types;
  }
  throw new Error("closed before the reply");
}

test("a client that guesses the key exchange rightly is answered", async () => {
  const socket = await connected();
  socket.write(Buffer.concat([Buffer.from("SSH-2.0-guesser\r\n"), kexinit("curve25519-sha256", "ssh-ed25519"), HALF]));
  expect(await typesUpToReply(socket)).toContain(KEX_REPLY);
});

test.each([
  ["the key exchange", "diffie-hellman-group14-sha1,curve25519-sha256", "ssh-ed25519"],
  ["the host key", "curve25519-sha256", "ssh-dss,ssh-ed25519"],
])("a wrong guess at %s is skipped, and what is sent after it is answered", async (_what, kex, hostKeys) => {
  const socket = await connected();
  const guess = packet(Buffer.concat([Buffer.of(30), string(Buffer.alloc(5))]));
  socket.write(Buffer.concat([Buffer.from("SSH-2.0-guesser\r\n"), kexinit(kex, hostKeys), guess, HALF]));
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
