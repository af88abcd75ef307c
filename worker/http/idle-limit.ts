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
