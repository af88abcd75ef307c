import { once } from "node:events";
import { connect, type Socket } from "node:net";

/** Connects to a host and port through a SOCKS5 proxy on this machine (RFC 1928), such as `ssh -D`'s. Throws when it is refused. */
export async function throughSocks(proxyPort: number, host: string, port: number): Promise<Socket> {
  const socket = connect(proxyPort, "127.0.0.1");
  try {
    await once(socket, "connect");
    socket.write(Buffer.of(5, 1, 0));
    await read(socket, 2);
    const name = Buffer.from(host, "latin1");
    socket.write(Buffer.concat([Buffer.of(5, 1, 0, 3, name.length), name, Buffer.of(port >> 8, port & 255)]));
    const answer = await read(socket, 10);
    if (answer[1] !== 0) throw new Error(`the proxy refused with ${answer[1]}`);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

async function read(socket: Socket, length: number): Promise<Buffer> {
  for (;;) {
    const bytes: unknown = socket.read(length);
    if (Buffer.isBuffer(bytes)) return bytes;
    if (socket.readableEnded || socket.destroyed) throw new Error("the proxy closed the connection");
    await Promise.race([once(socket, "readable"), once(socket, "close")]);
  }
}
