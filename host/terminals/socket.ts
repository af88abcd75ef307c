import type { WebSocket } from "ws";
import type { TerminalDialect } from "../../protocol/host-api.ts";
import { decodeFrame, encodeFrame, type ServerFrame } from "./frames.ts";
import type { TerminalSession, Viewer } from "./session.ts";
import type { TerminalSize } from "./shell.ts";

export interface SocketLimits {
  /** Most bytes of output that wait for one socket; one that lags further is closed. */
  readonly backlogBytes: number;
  /** Below this much waiting output a socket counts as keeping up. */
  readonly highWaterBytes: number;
  /** Between two pings, in milliseconds; a socket that showed no life between two of them is gone. */
  readonly pingMs: number;
  /** How long a peer may take to answer a close, in milliseconds. */
  readonly closeGraceMs: number;
}

/** Close codes of RFC 6455 section 7.4.1 and the IANA registry. */
const CLOSE = { done: 1000, goingAway: 1001, refused: 1008, tooSlow: 1013 } as const;

/** A reason has at most 123 bytes (RFC 6455 section 5.5); ours are plain ASCII. */
const MAX_REASON_LENGTH = 123;

/** A WebSocket that watches one session and types into it. Closing it leaves the session alone. */
export class TerminalSocket implements Viewer {
  size: TerminalSize | null;
  readonly #socket: WebSocket;
  readonly #session: TerminalSession;
  readonly #dialect: TerminalDialect;
  readonly #limits: SocketLimits;
  readonly #ping: NodeJS.Timeout;
  #backlog = 0;
  #alive = true;
  #closed = false;

  /** `onClosed` is called once the session has let go of it. */
  constructor(
    socket: WebSocket,
    session: TerminalSession,
    dialect: TerminalDialect,
    size: TerminalSize | null,
    limits: SocketLimits,
    onClosed: () => void,
  ) {
    this.#socket = socket;
    this.#session = session;
    this.#dialect = dialect;
    this.size = size;
    this.#limits = limits;
    this.#ping = setInterval(() => this.#beat(), limits.pingMs);
    socket.on("message", (data, isBinary) => this.#receive(data as Buffer, isBinary));
    socket.on("pong", () => this.#showLife());
    socket.on("close", () => {
      clearInterval(this.#ping);
      this.#letGo();
      onClosed();
    });
    // A close follows; a frame that is too large or malformed is the peer's affair.
    socket.on("error", () => undefined);
  }

  /** Says which session this is, then shows it. */
  begin(created: boolean): void {
    const { number, name, slug } = this.#session.spec;
    this.#send({ type: "session", number, name, slug, created });
    this.#session.attach(this);
  }

  get backlog(): number {
    return this.#backlog;
  }

  output(data: Buffer): void {
    if (this.#closed) return;
    this.#backlog += data.length;
    if (this.#backlog > this.#limits.backlogBytes) {
      this.#close(CLOSE.tooSlow, "The terminal writes faster than this connection takes it. Attach again.");
      return;
    }
    this.#socket.send(data, () => this.#passedOn(data.length));
  }

  exited(exitCode: number): void {
    this.#send({ type: "exited", exitCode });
    this.#close(CLOSE.done, "The session has exited.");
  }

  inputDrained(): void {
    this.#socket.resume();
  }

  /** Ends the socket because its caller may go on no longer. */
  refuse(text: string): void {
    this.#send({ type: "error", message: text });
    this.#close(CLOSE.refused, text);
  }

  /** Ends the socket because the host closes. */
  goAway(): void {
    this.#close(CLOSE.goingAway, "The host is closing.");
  }

  #receive(data: Buffer, isBinary: boolean): void {
    if (this.#closed) return;
    this.#showLife();
    if (isBinary) {
      if (!this.#session.type(data)) this.#socket.pause();
      return;
    }
    const frame = decodeFrame(data.toString("utf8"));
    if (frame?.type === "signal") this.#session.signal(frame.signal);
    if (frame?.type === "resize") {
      this.size = { cols: frame.cols, rows: frame.rows };
      this.#session.resized();
    }
  }

  #send(frame: ServerFrame): void {
    const text = encodeFrame(this.#dialect, frame);
    if (text !== null && !this.#closed) this.#socket.send(text);
  }

  #passedOn(bytes: number): void {
    this.#showLife();
    const { highWaterBytes } = this.#limits;
    const wasBehind = this.#backlog > highWaterBytes;
    this.#backlog -= bytes;
    if (wasBehind && this.#backlog <= highWaterBytes) this.#session.balance();
  }

  #beat(): void {
    if (!this.#alive) {
      this.#socket.terminate();
      return;
    }
    this.#alive = false;
    this.#socket.ping();
  }

  #showLife(): void {
    this.#alive = true;
  }

  #close(code: number, reason: string): void {
    if (this.#closed) return;
    this.#letGo();
    this.#socket.resume();
    this.#socket.close(code, reason.slice(0, MAX_REASON_LENGTH));
    setTimeout(() => this.#socket.terminate(), this.#limits.closeGraceMs).unref();
  }

  #letGo(): void {
    this.#closed = true;
    this.#session.detach(this);
  }
}
