import { connect, createServer } from "node:net";

/** A port that nobody listens on now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => (typeof address === "object" && address !== null ? resolve(address.port) : reject(new Error("no port"))));
    });
  });
}

/** What the other side of a connection says first. */
export function firstBytes(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    socket.setTimeout(5_000, () => socket.destroy(new Error("the other side says nothing")));
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("closed before a byte")));
    socket.once("data", (data) => {
      resolve(data.toString("latin1"));
      socket.destroy();
    });
  });
}
