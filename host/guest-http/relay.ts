import { type IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { pipeline } from "node:stream";
import type { Failure } from "../../protocol/failures.ts";
import { TRACE_HEADER } from "../../protocol/headers.ts";
import { failureStatus } from "../answers.ts";
import { fromGuest, SWITCHING } from "./headers.ts";

/** Passes a guest's answer on as it comes; `done` is called once, when it is over. What breaks off on one side does on the other. */
export function relayAnswer(answer: IncomingMessage, response: ServerResponse, done: () => void): void {
  response.writeHead(answer.statusCode ?? 502, answer.statusMessage, fromGuest(answer));
  response.flushHeaders();
  pipeline(answer, response, (error) => {
    if (error) response.destroy();
    done();
  });
}

/** The head of a guest's answer that switches protocols, for the visitor's socket. */
export function switchingHead(answer: IncomingMessage): string {
  const headers = [...SWITCHING, ...fromGuest(answer)];
  let head = "HTTP/1.1 101 Switching Protocols\r\n";
  for (let index = 0; index < headers.length; index += 2) head += `${headers[index]}: ${headers[index + 1]}\r\n`;
  return `${head}\r\n`;
}

/** Bytes that a socket has carried, both ways. */
export function bytesOf(socket: Socket): number {
  return socket.bytesRead + socket.bytesWritten;
}

/** The host's own no. A body that nobody read is in the way of the next request on the connection. */
export function refuse(request: IncomingMessage, response: ServerResponse, refusal: Failure, trace: string): void {
  if (response.destroyed) return;
  response.writeHead(failureStatus(refusal), {
    "content-type": "application/json",
    [TRACE_HEADER]: trace,
    ...(request.complete ? {} : { connection: "close" }),
  });
  response.end(JSON.stringify(refusal));
}

/** A guest's plain answer to somebody who asked for a WebSocket; the connection ends with it. */
export function relayOnSocket(request: IncomingMessage, answer: IncomingMessage, socket: Socket, done: () => void): void {
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(socket);
  response.on("finish", () => socket.end());
  relayAnswer(answer, response, done);
}
