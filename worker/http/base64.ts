/** Bytes turned into text at once; `String.fromCharCode` takes its arguments on the stack. */
const PIECE_BYTES = 0x6000;

/** Base64 (RFC 4648 section 4, padded) of bytes. */
export function encodeBase64(bytes: Uint8Array): string {
  let text = "";
  // PIECE_BYTES is a multiple of three, so pieces need no padding between them.
  for (let start = 0; start < bytes.length; start += PIECE_BYTES) {
    text += btoa(String.fromCharCode(...bytes.subarray(start, start + PIECE_BYTES)));
  }
  return text;
}

/** How many bytes a correct base64 text stands for. */
export function base64Bytes(text: string): number {
  const padding = text.endsWith("==") ? 2 : Number(text.endsWith("="));
  return (text.length / 4) * 3 - padding;
}

/** Bytes of a base64 text, or null when it is not base64. */
export function decodeBase64(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}

/**
 * Wraps a stream of bytes as a stream of `prefix`, the bytes in base64, `suffix`: a JSON document around a file of any
 * size without holding the file.
 */
export function base64Envelope(prefix: string, suffix: string): TransformStream<Uint8Array, Uint8Array> {
  const encoder = new TextEncoder();
  let rest = new Uint8Array(0);
  return new TransformStream({
    start(controller) {
      controller.enqueue(encoder.encode(prefix));
    },
    transform(chunk, controller) {
      const bytes = new Uint8Array(rest.length + chunk.length);
      bytes.set(rest);
      bytes.set(chunk, rest.length);
      const whole = bytes.length - (bytes.length % 3);
      rest = bytes.slice(whole);
      if (whole > 0) controller.enqueue(encoder.encode(encodeBase64(bytes.subarray(0, whole))));
    },
    flush(controller) {
      controller.enqueue(encoder.encode(encodeBase64(rest) + suffix));
    },
  });
}
