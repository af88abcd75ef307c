/** Bytes that a page reads as Node's `Buffer` lets it. */
class Bytes extends Uint8Array {
  override toString(encoding?: string): string {
    return encoding === "base64" ? btoa(String.fromCharCode(...this)) : new TextDecoder().decode(this);
  }
}

function from(content: string | Iterable<number>, encoding?: string): Bytes {
  if (typeof content !== "string") return new Bytes([...content]);
  return new Bytes([...(encoding === "base64" ? bytesOf(atob(content)) : new TextEncoder().encode(content))]);
}

function bytesOf(binary: string): number[] {
  return Array.from(binary, (char) => char.charCodeAt(0));
}

/** `Buffer` of Node as far as 0.1.63 uses it: between text, base64 and bytes. */
export const Buffer = { from };

/** `path` of Node as far as 0.1.63 uses it. */
export default { join: (...parts: string[]) => parts.join("/") };
