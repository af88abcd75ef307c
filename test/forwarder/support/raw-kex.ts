import { type AddressInfo, createServer, connect as dial, type Socket } from "node:net";
import ssh2 from "ssh2";
import { clientAlgorithms } from "../../../forwarder/algorithms.ts";
import { string, uint32 } from "../../../forwarder/ssh-wire.ts";

/** What a client says of itself. */
export const CLIENT_LINE = "SSH-2.0-raw";

/** A server of `ssh2` with the forwarder's algorithms; `prepare` is called before its first KEXINIT. `close` ends all of it. */
export async function rawConnection(
  hostKey: string,
  prepare: (connection: ssh2.Connection) => void,
): Promise<{ readonly socket: Socket; readonly close: () => void }> {
  const server = new ssh2.Server({ hostKeys: [hostKey], algorithms: clientAlgorithms(["aes128-ctr"]) }, (connection) => {
    connection.on("error", () => undefined);
    prepare(connection);
  });
  server.on("error", () => undefined);
  const listener = createServer((socket) => server.injectSocket(socket));
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const socket = dial((listener.address() as AddressInfo).port, "127.0.0.1");
  const close = () => {
    socket.destroy();
    listener.close();
  };
  return { socket, close };
}

/** A packet before the first keys (RFC 4253 section 6). */
export function packet(payload: Buffer): Buffer {
  const padding = 8 - ((5 + payload.length) % 8) + 8;
  return Buffer.concat([uint32(1 + payload.length + padding), Buffer.of(padding), payload, Buffer.alloc(padding)]);
}

/** The payload of a KEXINIT (RFC 4253 section 7.1). `guesses`: whether a packet of the first exchange follows unasked. */
export function kexinit(kex: string, hostKeys: string, guesses: boolean): Buffer {
  const lists = [kex, hostKeys, "aes128-ctr", "aes128-ctr", "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""];
  const flag = Buffer.of(guesses ? 1 : 0);
  return Buffer.concat([Buffer.of(20), Buffer.alloc(16, 7), ...lists.map((list) => string(list)), flag, uint32(0)]);
}

/** The client's half of an exchange (RFC 5656 section 4): its public key. */
export function exchangeInit(publicKey: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(30), string(publicKey)]);
}

export const KEX_REPLY = 31;

/** The server's identification and the payloads of its packets, up to one of type `last` or the connection's end. */
export async function readUpTo(socket: Socket, last: number): Promise<{ readonly line: string; readonly payloads: Buffer[] }> {
  let read = Buffer.alloc(0);
  let payloads: Buffer[] = [];
  for await (const chunk of socket) {
    read = Buffer.concat([read, Buffer.from(chunk as Uint8Array)]);
    payloads = packetsOf(read);
    if (payloads.some((payload) => payload[0] === last)) break;
  }
  return { line: read.toString("latin1", 0, read.indexOf("\r")), payloads };
}

function packetsOf(read: Buffer): Buffer[] {
  const payloads: Buffer[] = [];
  for (let at = read.indexOf("\n") + 1; at > 0 && at + 6 <= read.length; ) {
    const end = at + 4 + read.readUInt32BE(at);
    if (end > read.length) break;
    payloads.push(read.subarray(at + 5, end - read.readUInt8(at + 4)));
    at = end;
  }
  return payloads;
}
