import { type IncomingHttpHeaders, request } from "node:http";
import WebSocket from "ws";
import { system } from "./fixture.ts";

export interface Visited {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

interface VisitOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
}

/** A request to a VM's name (`name`, without the domain), as a browser would send it: the `Host` header says where to. */
export function visit(name: string, path: string, { method = "GET", headers = {}, body }: VisitOptions = {}): Promise<Visited> {
  const { port } = new URL(system.apiUrl);
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { "content-length": String(body.length) };
    const sent = { host: `${name}.vm.localhost:${port}`, ...length, ...headers };
    const asked = request(system.apiUrl + path, { method, headers: sent }, async (answer) => {
      const pieces: Buffer[] = [];
      try {
        for await (const piece of answer) pieces.push(piece as Buffer);
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(pieces) });
      } catch (error) {
        reject(error);
      }
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

/** A WebSocket to a VM's name. */
export function visitSocket(name: string, path: string, headers: Readonly<Record<string, string>> = {}): WebSocket {
  const { port } = new URL(system.apiUrl);
  return new WebSocket(system.apiUrl.replace("http", "ws") + path, {
    headers: { host: `${name}.vm.localhost:${port}`, ...headers },
  });
}
