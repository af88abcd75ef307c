import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { z } from "zod";
import { messageOf } from "../../../service/message-of.ts";
import { DriverError } from "../../driver.ts";

const message = z.union([
  z.object({ QMP: z.unknown() }),
  z.object({ return: z.unknown(), id: z.int().optional() }),
  z.object({ error: z.object({ class: z.string(), desc: z.string() }), id: z.int().optional() }),
  z.object({ event: z.string() }),
]);

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A connection to a QEMU's monitor (QEMU Machine Protocol, docs/interop/qmp-spec of QEMU). One at a time per QEMU. */
export class Qmp {
  readonly #socket: Socket;
  readonly #timeoutMs: number;
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;
  #ended: Error | null = null;

  private constructor(socket: Socket, timeoutMs: number) {
    this.#socket = socket;
    this.#timeoutMs = timeoutMs;
    // The interface tells of its input's errors too, and unheard they would end the process.
    createInterface({ input: socket })
      .on("line", (line) => this.#read(line))
      .on("error", (error: Error) => this.#end(error));
    socket.on("error", (error) => this.#end(error));
    socket.on("close", () => this.#end(new Error("QEMU ended the connection")));
  }

  /** Connects and negotiates. Throws `DriverError` `engine` when nobody answers there. */
  static async open(path: string, timeoutMs: number): Promise<Qmp> {
    const qmp = new Qmp(connect(path), timeoutMs);
    try {
      await qmp.ask("qmp_capabilities");
      return qmp;
    } catch (error) {
      qmp.close();
      throw error;
    }
  }

  /** Sends one command and answers its result. Throws `DriverError` `engine` with QEMU's own words when it refuses. */
  ask(command: string, parameters: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    const id = this.#next;
    this.#next += 1;
    const answer = new Promise<unknown>((resolve, reject) => {
      if (this.#ended !== null) reject(this.#ended);
      this.#waiting.set(id, { resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: parameters, id })}\n`);
    });
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer in ${this.#timeoutMs} ms`)), this.#timeoutMs);
    });
    return Promise.race([answer, tooLong])
      .catch((error: unknown) => {
        throw new DriverError("engine", `QEMU: ${command}: ${messageOf(error)}`);
      })
      .finally(() => {
        clearTimeout(timer);
        this.#waiting.delete(id);
      });
  }

  close(): void {
    this.#socket.destroy();
  }

  #read(line: string): void {
    const read = message.safeParse(parse(line));
    if (!read.success || !("id" in read.data) || read.data.id === undefined) return;
    const waiting = this.#waiting.get(read.data.id);
    if ("error" in read.data) waiting?.reject(new Error(read.data.error.desc));
    else waiting?.resolve(read.data.return);
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#ended);
    this.#waiting.clear();
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
