import { failure, type Result, success } from "../../protocol/failures.ts";

/**
 * Reads a request's body up to a limit. `payload-too-large` as soon as the declared or the actual size is over it, so
 * that nobody can make the edge hold more.
 */
export async function readBody(request: Request, maxBytes: number): Promise<Result<Uint8Array<ArrayBuffer>>> {
  const tooLarge = failure("payload-too-large", `The request body is larger than ${maxBytes} bytes.`, { maxBytes });
  if (Number(request.headers.get("content-length") ?? 0) > maxBytes) return tooLarge;
  if (request.body === null) return success(new Uint8Array(0));
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body as ReadableStream<Uint8Array>) {
    length += chunk.byteLength;
    if (length > maxBytes) return tooLarge;
    chunks.push(chunk);
  }
  return success(concatenate(chunks, length));
}

/** Parses a body as JSON; an empty one is `undefined`, since clients send POSTs without a body. */
export function parseJson(bytes: Uint8Array): Result<unknown> {
  if (bytes.byteLength === 0) return success(undefined);
  try {
    return success(JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes)));
  } catch {
    return failure("bad-request", "The request body is not valid JSON.");
  }
}

function concatenate(chunks: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    whole.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return whole;
}
