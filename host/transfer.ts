import type { Readable } from "node:stream";
import type { Sftp } from "./sftp.ts";

/** Bytes of one SFTP request; OpenSSH takes up to 255 KiB. */
const CHUNK_BYTES = 128 * 1024;
/** Requests under way at once, so that a distant guest does not wait for each answer. */
const WINDOW = 4;

/** More than the allowed bytes came. */
export class TooManyBytes extends Error {}

/** Whoever sends the content went away before its end. */
export class SourceBroke extends Error {}

/** The first `size` bytes of an open file. Throws if it turns out shorter, so that a cut file never looks like a whole one. */
export async function* readExactly(sftp: Sftp, handle: Buffer, size: number): AsyncGenerator<Buffer> {
  const ahead: Promise<Buffer>[] = [];
  let asked = 0;
  while (asked < size || ahead.length > 0) {
    while (asked < size && ahead.length < WINDOW) {
      const length = Math.min(CHUNK_BYTES, size - asked);
      const chunk = readPart(sftp, handle, asked, length);
      // Reported when its turn comes; until then it must not count as unhandled.
      chunk.catch(() => undefined);
      ahead.push(chunk);
      asked += length;
    }
    const next = await ahead.shift();
    if (next !== undefined) yield next;
  }
}

/** An open file of unknown size, such as one of `/proc`, until it ends. */
export async function* readToEnd(sftp: Sftp, handle: Buffer): AsyncGenerator<Buffer> {
  for (let position = 0; ; ) {
    const chunk = await sftp.read(handle, position, CHUNK_BYTES);
    if (chunk.length === 0) return;
    position += chunk.length;
    yield chunk;
  }
}

async function readPart(sftp: Sftp, handle: Buffer, position: number, length: number): Promise<Buffer> {
  const chunk = await sftp.read(handle, position, length);
  if (chunk.length === length) return chunk;
  if (chunk.length === 0) throw new Error(`the file ended at byte ${position}`);
  return Buffer.concat([chunk, await readPart(sftp, handle, position + chunk.length, length - chunk.length)]);
}

/**
 * Writes all of `source` into an open file. Throws `SourceBroke` if it breaks off, `TooManyBytes` beyond `maxBytes`, or the
 * SFTP error of a write.
 */
export async function writeAll(sftp: Sftp, handle: Buffer, source: Readable, maxBytes: number): Promise<void> {
  const underway: Promise<void>[] = [];
  let position = 0;
  for await (const chunk of unbroken(source)) {
    if (position + chunk.length > maxBytes) throw new TooManyBytes(`more than ${maxBytes} bytes`);
    const write = sftp.write(handle, position, chunk);
    write.catch(() => undefined);
    underway.push(write);
    position += chunk.length;
    if (underway.length >= WINDOW) await underway.shift();
  }
  await Promise.all(underway);
}

async function* unbroken(source: Readable): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of source.iterator({ destroyOnReturn: false })) yield chunk;
  } catch (error) {
    throw new SourceBroke("the source broke off", { cause: error });
  }
}
