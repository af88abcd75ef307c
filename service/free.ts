/** Less is not worth a call: it lives in the heap's young space or in a pool that others use too. */
const WORTH_BYTES = 4_096;

/**
 * Gives memory back at once in place of waiting for the garbage collector, which looks through the whole heap for every 64
 * MiB of such buffers that were made. Only for bytes that nobody reads any more: they are gone when this returns. Views of
 * a part of something, and small ones, are left alone.
 */
export function free(bytes: Uint8Array): void {
  if (!isWorth(bytes)) return;
  const { buffer } = bytes;
  // A transfer detaches the buffer; to no bytes at all, it frees them.
  if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}

/** What a stream is to call once it has written bytes, to free them; undefined where that does nothing but cost the call. */
export function freeing(bytes: Uint8Array): (() => void) | undefined {
  return isWorth(bytes) ? () => free(bytes) : undefined;
}

function isWorth(bytes: Uint8Array): boolean {
  return bytes.length >= WORTH_BYTES && bytes.length === bytes.buffer.byteLength;
}
