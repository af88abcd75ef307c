import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/**
 * Ports to choose from: below those that the kernel gives to outgoing connections (ip(7), `ip_local_port_range`), of which any may be
 * taken between the choice and the use.
 */
export const FIRST_PORT = 10_000;
export const LAST_PORT = 32_000;
const TRIES = 100;

/**
 * A port to listen on: the wanted one if it is free, any free one for 0. Throws when the wanted one is taken, naming the
 * setting that moves it. Chosen here and not by the part itself, so that the part comes back on the same port.
 */
export async function choosePort(address: string, wanted: number, setting: string): Promise<number> {
  if (wanted !== 0) {
    if (await isFree(address, wanted)) return wanted;
    throw new Error(`Port ${wanted} on ${address} is in use. Set ${setting} to another port, or to 0 for any free one.`);
  }
  for (let tries = 0; tries < TRIES; tries += 1) {
    const port = randomInt(FIRST_PORT, LAST_PORT);
    if (await isFree(address, port)) return port;
  }
  throw new Error(`No port between ${FIRST_PORT} and ${LAST_PORT} on ${address} seems to be free. Set ${setting} to one that is.`);
}

/** Whether nobody listens there. Throws when one could not listen there for another reason, such as an address that is not ours. */
export function isFree(address: string, port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(false);
      else reject(error);
    });
    server.listen(port, address, () => server.close(() => resolve(true)));
  });
}
