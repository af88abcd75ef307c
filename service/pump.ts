import type { Duplex } from "node:stream";
import { freeing } from "./free.ts";

/**
 * Copies everything from one stream to another, the end included, no faster than it is taken. What `pipe` does, but each
 * buffer's memory is given back when it is written, and what comes for a stream that is gone is dropped, so that the end of
 * `from` is still seen. `onBytes` hears of each chunk's size.
 */
export function pump(from: Duplex, to: Duplex, onBytes: (bytes: number) => void = () => undefined): void {
  from.on("data", (chunk: Buffer) => {
    onBytes(chunk.length);
    if (to.writable && !to.write(chunk, freeing(chunk))) from.pause();
  });
  to.on("drain", () => from.resume());
  to.on("close", () => from.resume());
  from.on("end", () => to.end());
  from.resume();
}
