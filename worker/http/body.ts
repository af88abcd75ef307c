import { failure, type Result, success } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { BodyTimedOut, chunksWithin } from "./idle-limit.ts";
import type { TimeLimits } from "./time-limits.ts";

/** How much of a body is read, and how long it may take. */
export interface BodyLimits {
  /** The message's `Content-Length`; null: it has none. */
  readonly declared: string | null;
  readonly maxBytes: number;
  /** Longest pause, in milliseconds. */
  readonly idleMs: number;
  /** Longest time for all of it, in milliseconds; also kept by one who sends a byte now and then. */
  readonly totalMs: number;
  readonly timeLimits: TimeLimits;
}

/** The limits of a request's body; without `maxBytes` those of JSON. */
export function requestLimits({ head, settings, timeLimits }: Edge, maxBytes = settings.MAX_JSON_BYTES): BodyLimits {
  const declared = head.get("content-length");
  return { declared, maxBytes, idleMs: settings.BODY_IDLE_TIMEOUT_MS, totalMs: settings.JSON_BODY_TIMEOUT_MS, timeLimits };
}

/**
 * Reads a body up to a limit. `payload-too-large` as soon as the declared or the actual size is over it, so that nobody
 * can make the edge hold more; `request-timed-out` when it does not come in time; `bad-request` when it breaks off or is not framed
 * as its headers say (RFC 9112 section 7.1).
 */
export async function readBody(message: Request | Response, limits: BodyLimits): Promise<Result<Uint8Array<ArrayBuffer>>> {
  const { declared, maxBytes, idleMs, totalMs } = limits;
  const tooLarge = () => failure("payload-too-large", `The body is larger than ${maxBytes} bytes.`, { maxBytes });
  if (Number(declared ?? 0) > maxBytes) return tooLarge();
  // Asking for the stream of a body makes one, which a small body does not need.
  if (declared !== null && Number(declared) <= SMALL_BYTES) {
    const small = await readSmall(message, limits);
    return small.ok && small.value.byteLength > maxBytes ? tooLarge() : small;
  }
  if (message.body === null) return success(new Uint8Array(0));
  const deadline = Date.now() + totalMs;
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of chunksWithin(message.body, idleMs)) {
      length += chunk.byteLength;
      if (length > maxBytes) return tooLarge();
      if (Date.now() > deadline) throw new BodyTimedOut();
      chunks.push(chunk);
    }
  } catch (error) {
    return error instanceof BodyTimedOut ? LATE : BROKEN;
  }
  return success(concatenate(chunks, length));
}

const LATE = failure("request-timed-out", "The body of the request did not arrive in time.");
const BROKEN = failure("bad-request", "The body broke off, or is not framed as the headers say.");

/** A declared length below which a body comes in a packet or two, so that whatever keeps it longer than a pause may last is one. */
const SMALL_BYTES = 4_096;

/** Reads a small body at once: piece by piece takes the processor far longer than all the rest of a request. */
async function readSmall(
  message: Request | Response,
  { idleMs, timeLimits }: BodyLimits,
): Promise<Result<Uint8Array<ArrayBuffer>>> {
  const read = message.arrayBuffer().catch(() => BROKEN);
  const bytes = await timeLimits.within(idleMs, read);
  if (bytes === null) return LATE;
  return bytes instanceof ArrayBuffer ? success(new Uint8Array(bytes)) : bytes;
}

const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });

/** Parses a body as JSON; an empty one is `undefined`, since clients send POSTs without a body. */
export function parseJson(bytes: Uint8Array): Result<unknown> {
  if (bytes.byteLength === 0) return success(undefined);
  try {
    return success(JSON.parse(DECODER.decode(bytes)));
  } catch {
    return failure("bad-request", "The body is not valid JSON.");
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
