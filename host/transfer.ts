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

/** Bytes `start` to `end` (exclusive) of an open file. Throws if it turns out shorter, so that a cut file never looks like a whole one. */
export async function* readExactly(sftp: Sftp, handle: Buffer, start: number, end: number): AsyncGenerator<Buffer> {
  const ahead: Promise<Buffer>[] = [];
  let asked = start;
  while (asked < end || ahead.length > 0) {
    while (asked < end && ahead.length < WINDOW) {
      const length = Math.min(CHUNK_BYTES, end - asked);
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

/** An open file of unknown size in one piece, or null when it holds more than `maxBytes`. */
export async function readSmall(sftp: Sftp, handle: Buffer, maxBytes: number): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of readToEnd(sftp, handle)) {
    length += chunk.length;
    if (length > maxBytes) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function readPart(sftp: Sftp, handle: Buffer, position: number, length: number): Promise<Buffer> {
  const chunk = await sftp.read(handle, position, length);
  if (chunk.length === length) return chunk;
  if (chunk.length === 0) throw new Error(`the file ended at byte ${position}`);
  return Buffer.concat([chunk, await readPart(sftp, handle, position + chunk.length, length - chunk.length)]);
}

/** Whoever sends the content has stopped sending. */
export class SourceStalled extends Error {}

/** Where the bytes of a source go. */
export interface WriteOptions {
  /** Of the first byte that is written. */
  readonly position: number;
  /** Bytes at the source's beginning that are already there: read and dropped. */
  readonly skip: number;
  /** Most bytes that the source may have. */
  readonly maxBytes: number;
  /** Longest wait for more of them, in milliseconds. */
  readonly idleMs: number;
  /** Told of everything that the guest has taken, in order and without gaps. */
  readonly onWritten: (chunk: Buffer) => void;
}

interface Write {
  readonly chunk: Buffer;
  readonly done: Promise<void>;
}

/**
 * Writes a source into an open file. Throws `SourceBroke` if it breaks off, `SourceStalled` if nothing more comes,
 * `TooManyBytes` when it has too many, or the SFTP error of a write; what was under way is awaited first, so `onWritten` is not called afterwards.
 */
export async function writeAll(sftp: Sftp, handle: Buffer, source: Readable, options: WriteOptions): Promise<void> {
  const underway: Write[] = [];
  let { position, skip } = options;
  let taken = 0;
  const settle = async () => {
    const next = underway.shift();
    if (next === undefined) return;
    await next.done;
    options.onWritten(next.chunk);
  };
  let broken: unknown;
  try {
    for await (const piece of unbroken(source, options.idleMs)) {
      taken += piece.length;
      if (taken > options.maxBytes) throw new TooManyBytes(`more than ${options.maxBytes} bytes`);
      const chunk = piece.subarray(skip);
      skip = Math.max(0, skip - piece.length);
      if (chunk.length === 0) continue;
      const done = sftp.write(handle, position, chunk);
      done.catch(() => undefined);
      underway.push({ chunk, done });
      position += chunk.length;
      if (underway.length >= WINDOW) await settle();
    }
  } catch (error) {
    broken = error;
  }
  while (underway.length > 0) await settle();
  if (broken !== undefined) throw broken;
}

async function* unbroken(source: Readable, idleMs: number): AsyncGenerator<Buffer> {
  const pieces: AsyncIterator<Buffer> = source.iterator({ destroyOnReturn: false });
  for (;;) {
    const { done, value } = await within(pieces.next(), idleMs);
    if (done) return;
    yield value;
  }
}

async function within<T>(piece: Promise<T>, idleMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const stalled = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new SourceStalled("the source stalled")), idleMs);
  });
  try {
    return await Promise.race([piece, stalled]);
  } catch (error) {
    if (error instanceof SourceStalled) throw error;
    throw new SourceBroke("the source broke off", { cause: error });
  } finally {
    clearTimeout(timer);
  }
}
