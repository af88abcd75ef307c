import type { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";

/** The standard streams of a ProxyCommand: what `ssh` writes and what it reads. */
export interface Streams {
  readonly input: Readable;
  readonly output: Writable;
}

/** Carries bytes both ways until the far side ends the connection; `ssh` closes the streams once it has. */
export async function carry(socket: Socket, streams: Streams): Promise<void> {
  streams.input.pipe(socket);
  socket.pipe(streams.output);
  await finished(socket, { readable: true, writable: false }).catch(() => undefined);
  socket.destroy();
  streams.input.destroy();
}

/** Quotes a word for the shell that runs a ProxyCommand, after ssh's own `%` expansion. */
export function quoteForProxyCommand(word: string): string {
  return `'${word.replaceAll("'", "'\\''").replaceAll("%", "%%")}'`;
}
