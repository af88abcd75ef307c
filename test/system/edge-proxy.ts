import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { WebSocket, WebSocketServer } from "ws";

/** What becomes of a message of the feed: sent on as these, each after so many milliseconds. None: it is lost. */
export type Fault = (message: string) => readonly { readonly text: string; readonly afterMs: number }[];

export const FAITHFUL: Fault = (text) => [{ text, afterMs: 0 }];

/** Whether a message of the feed is a floor. */
export const isFloor = (text: string) => text.startsWith('{"type":"floor"');

/** A plain request to the edge. */
export interface Asked {
  readonly path: string;
  /** When the edge's answer was handed over, by `performance.now()`; null while it is on its way. */
  answeredAt: number | null;
}

/** Stands between a host or forwarder and the edge: mistreats what the feed sends, and passes plain requests on and notes them. */
export class EdgeProxy {
  readonly url: string;
  fault: Fault = FAITHFUL;
  /** Every plain request so far, such as for the ticket keys or for a ticket. */
  readonly asked: Asked[] = [];
  /** Plain requests wait for this before they are passed on. */
  held: Promise<void> = Promise.resolve();
  readonly #server: Server;
  readonly #sockets: WebSocketServer;

  private constructor(server: Server, sockets: WebSocketServer) {
    this.#server = server;
    this.#sockets = sockets;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(edgeUrl: string): Promise<EdgeProxy> {
    const server = createServer();
    const sockets = new WebSocketServer({ server });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const proxy = new EdgeProxy(server, sockets);
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      proxy.#passOn(edgeUrl, request, response).catch(() => response.writeHead(502).end());
    });
    sockets.on("connection", (member, request) => {
      const { authorization = "" } = request.headers;
      const region = new WebSocket(`${edgeUrl.replace(/^http/, "ws")}${request.url}`, { headers: { authorization } });
      const early: string[] = [];
      member.on("message", (data) => {
        if (region.readyState === WebSocket.OPEN) region.send(data.toString());
        else early.push(data.toString());
      });
      region.on("open", () => {
        for (const text of early.splice(0)) region.send(text);
      });
      region.on("message", (data) => proxy.#pass(data.toString(), member));
      region.on("close", () => member.terminate()).on("error", () => member.terminate());
      member.on("close", () => region.terminate()).on("error", () => region.terminate());
    });
    return proxy;
  }

  /** Breaks every connection. */
  cut(): void {
    for (const member of this.#sockets.clients) member.terminate();
  }

  async stop(): Promise<void> {
    this.cut();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #passOn(edgeUrl: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const asked: Asked = { path: request.url ?? "/", answeredAt: null };
    this.asked.push(asked);
    const body = Buffer.concat(await request.toArray());
    await this.held;
    const answer = await fetchFrom(edgeUrl, request, body);
    const text = await answer.text();
    response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "" }).end(text);
    asked.answeredAt = performance.now();
  }

  #pass(message: string, member: WebSocket): void {
    for (const { text, afterMs } of this.fault(message)) {
      if (afterMs === 0) member.send(text);
      else setTimeout(() => member.readyState === WebSocket.OPEN && member.send(text), afterMs);
    }
  }
}

function fetchFrom(edgeUrl: string, { url = "/", method = "GET", headers }: IncomingMessage, body: Buffer): Promise<Response> {
  return fetch(`${edgeUrl}${url}`, {
    method,
    headers: { authorization: headers.authorization ?? "", "content-type": headers["content-type"] ?? "" },
    body: body.length === 0 ? null : body,
  });
}
