import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** A TCP port behind which another one seems to be some way off. */
export interface Distance {
  readonly port: number;
  close(): void;
}

/** `oneWayMs`: what every byte is late by, in either direction; connecting is not. As fast as the way behind it. */
export async function openDistance(to: Address, oneWayMs: number): Promise<Distance> {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (near) => {
    const far = connect({ ...to, noDelay: true, allowHalfOpen: true });
    for (const [from, onto] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("error", () => onto.destroy());
      from.on("close", () => sockets.delete(from));
      from.on("data", (chunk: Buffer) => setTimeout(() => onto.write(chunk), oneWayMs));
      from.on("end", () => setTimeout(() => onto.end(), oneWayMs));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
