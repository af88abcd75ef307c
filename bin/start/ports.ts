import { createServer } from "node:net";

/**
 * A port to listen on: the wanted one if it is free, any free one for 0. Throws when the wanted one is taken, naming the
 * setting that moves it. Chosen here and not by the part itself, so that the part comes back on the same port.
 */
export async function choosePort(address: string, wanted: number, setting: string): Promise<number> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      reject(
        error.code === "EADDRINUSE"
          ? new Error(`Port ${wanted} on ${address} is in use. Set ${setting} to another port, or to 0 for any free one.`)
          : error,
      );
    });
    server.listen(wanted, address, () => {
      const bound = server.address();
      server.close(() => resolve(typeof bound === "object" && bound !== null ? bound.port : wanted));
    });
  });
}
