/** Less is not worth a call: it lives in the heap's young space or in a pool that others use too. */
const WORTH_BYTES = 4_096;

/**
 * Gives memory back at once in place of waiting for the garbage collector, which looks through the whole heap for every 64
 * MiB of such buffers that were made. Only for bytes that nobody reads any more: they are gone when this returns. Views of
 * a part of something, and small ones, are left alone.
 */
export function free(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (bytes.length < WORTH_BYTES || bytes.length !== buffer.byteLength) return;
  // A transfer detaches the buffer; to no bytes at all, it frees them.
  if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}
