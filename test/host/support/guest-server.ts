import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { WebSocketServer } from "ws";

/** A request that a guest's server got: as it stands on the wire. */
export interface GuestRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** A web server at a guest's address: tells what it was asked, and speaks WebSocket. */
export class GuestServer {
  readonly requests: GuestRequest[] = [];
  readonly #server: Server;
  readonly #sockets: WebSocketServer;

  private constructor(answer: (request: IncomingMessage, response: ServerResponse) => void) {
    this.#server = createServer((request, response) => {
      if (request.url?.startsWith("/own") === true) answer(request, response);
      else void this.#echo(request, response);
    });
    this.#sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered][0] ?? false });
    this.#server.on("upgrade", (request, socket, head) => {
      if (request.url === "/no-socket") {
        socket.end("HTTP/1.1 418 No\r\ncontent-length: 6\r\npostern-guest-answer: 0\r\n\r\nno tea");
        return;
      }
      this.requests.push({ method: "GET", url: request.url ?? "", headers: request.headers, body: "" });
      this.#sockets.handleUpgrade(request, socket, head, (accepted) => {
        accepted.on("message", (data, binary) => accepted.send(data, { binary }));
      });
    });
  }

  /** `answer` serves what is below `/own`. */
  static async start(
    address: string,
    port: number,
    answer: (request: IncomingMessage, response: ServerResponse) => void = () => undefined,
  ): Promise<GuestServer> {
    const guest = new GuestServer(answer);
    guest.#server.listen(port, address);
    await once(guest.#server, "listening");
    return guest;
  }

  get last(): GuestRequest {
    const request = this.requests.at(-1);
    if (request === undefined) throw new Error("the guest was asked nothing");
    return request;
  }

  /** Open connections, kept ones included. */
  connections(): Promise<number> {
    return new Promise((resolve) => this.#server.getConnections((_error, count) => resolve(count)));
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #echo(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = "";
    for await (const chunk of request) body += String(chunk);
    this.requests.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers, body });
    response.writeHead(201, "Made", {
      "content-type": "text/plain",
      "x-guest": "yes",
      "set-cookie": ["a=1", "b=2"],
      "postern-trick": "1",
      "keep-alive": "timeout=9",
    });
    response.end(`heard ${body}`);
  }
}
