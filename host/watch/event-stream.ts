import { Transform, type TransformCallback } from "node:stream";
import type { FileEvent } from "../../protocol/host-api.ts";
import { STAGED_NAME } from "../staging.ts";

/** inotify(7) events that Node's `fs.watch` calls `change`; every other one is a `rename`. */
const CHANGES: ReadonlySet<string> = new Set(["MODIFY", "ATTRIB"]);
/** Between the fields that inotifywait writes: the one byte that no file name holds. */
const SEPARATOR = 0;
/** A line that says nothing: SDKs skip it, and it shows that both sides are there. */
const EMPTY_LINE = "\n";

/**
 * Turns what inotifywait writes (event names, NUL, path, NUL) into `FileEvent`s, one JSON document a line. An empty line
 * comes first and after every `pingMs` milliseconds of silence.
 */
export class EventStream extends Transform {
  readonly #timer: NodeJS.Timeout;
  #rest: Buffer = Buffer.alloc(0);
  #events: string | null = null;

  constructor(pingMs: number) {
    super();
    this.#timer = setInterval(() => {
      if (this.readableLength === 0) this.push(EMPTY_LINE);
    }, pingMs);
    this.push(EMPTY_LINE);
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#timer.refresh();
    let data = Buffer.concat([this.#rest, chunk]);
    for (let end = data.indexOf(SEPARATOR); end >= 0; end = data.indexOf(SEPARATOR)) {
      this.#take(data.toString("utf8", 0, end));
      data = data.subarray(end + 1);
    }
    this.#rest = data;
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearInterval(this.#timer);
    done(error);
  }

  #take(field: string): void {
    if (this.#events === null) {
      this.#events = field;
      return;
    }
    const isChange = this.#events.split(",").every((name) => CHANGES.has(name) || name === "ISDIR");
    this.#events = null;
    const filename = field.replace(/^\.\//, "");
    if (STAGED_NAME.test(filename)) return;
    const event: FileEvent = { eventType: isChange ? "change" : "rename", filename };
    this.push(`${JSON.stringify(event)}\n`);
  }
}
