/** A body stalled, or took longer than it may. */
export class BodyTimedOut extends Error {
  constructor() {
    super("the body did not arrive in time");
    this.name = "BodyTimedOut";
  }
}

/** Reads a stream chunk by chunk. Throws `BodyTimedOut` when one takes longer than `idleMs`; the stream is then cancelled. */
export async function* chunksWithin(body: ReadableStream<Uint8Array>, idleMs: number): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  let isRead = false;
  try {
    for (;;) {
      const { done, value } = await within(reader.read(), idleMs);
      if (done) break;
      yield value;
    }
    isRead = true;
  } finally {
    // Not awaited: the source may be the very one that does not answer.
    if (!isRead) reader.cancel().catch(() => undefined);
  }
}

/**
 * The same bytes as a stream that fails with `BodyTimedOut` when its source stalls for `idleMs`: for bodies that are passed
 * on. Only waiting for the source counts, so a slow reader is nobody's time-out.
 */
export function idleLimited(body: ReadableStream<Uint8Array>, idleMs: number): ReadableStream<Uint8Array> {
  const chunks = chunksWithin(body, idleMs);
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await chunks.return(undefined);
      },
    },
    // Nothing is read ahead of whoever reads this.
    { highWaterMark: 0 },
  );
}

async function within<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | null = null;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new BodyTimedOut()), ms);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    if (timer !== null) clearTimeout(timer);
  }
}
