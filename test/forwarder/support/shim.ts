import { connect, createServer, type Socket } from "node:net";

/** A TCP relay in front of a forwarder that changes what the client sends. */
export interface Shim {
  readonly port: number;
  close(): void;
}

/** `forward` sends a chunk of the client's on to the forwarder as it likes. */
export async function openShim(port: number, forward: (chunk: Buffer, to: Socket) => void): Promise<Shim> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const behind = connect({ port, host: "127.0.0.1", noDelay: true });
    for (const [one, other] of [
      [client, behind],
      [behind, client],
    ] as const) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
    client.on("data", (chunk: Buffer) => forward(chunk, behind));
    client.on("end", () => behind.end());
    behind.pipe(client);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    port: address.port,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
