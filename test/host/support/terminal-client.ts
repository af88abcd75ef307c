import WebSocket from "ws";
import type { TicketClaims } from "../../../protocol/ticket.ts";
import type { TestHost } from "./test-host.ts";
import { until } from "./until.ts";

/** Frames that are searched for what a test waits for: not a flood from its beginning, again and again. */
const LATE_FRAMES = 100;

/** A terminal's socket as the edge would open it, and everything that came through. */
export class TerminalClient {
  readonly socket: WebSocket;
  /** Text frames, parsed. */
  readonly texts: Record<string, unknown>[] = [];
  /** Binary frames. */
  readonly frames: Buffer[] = [];
  closed: { readonly code: number; readonly reason: string } | null = null;

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("message", (data, isBinary) => {
      if (isBinary) this.frames.push(data as Buffer);
      else this.texts.push(JSON.parse(String(data)) as Record<string, unknown>);
    });
    socket.on("close", (code, reason) => {
      this.closed = { code, reason: reason.toString() };
    });
    socket.on("error", () => undefined);
  }

  /** Connects. Rejects with `Refused` when the host answers plain HTTP. */
  static async connect(host: TestHost, path: string, claims: Partial<TicketClaims>): Promise<TerminalClient> {
    const ticket = await host.edge.ticket(host.agent.id, { op: "terminal", user: "root", ...claims });
    return TerminalClient.open(`${host.agent.url}${path}`, { authorization: `Bearer ${ticket}` });
  }

  static open(url: string, headers: Record<string, string>): Promise<TerminalClient> {
    const socket = new WebSocket(url.replace(/^http/, "ws"), { headers });
    const client = new TerminalClient(socket);
    return new Promise((resolve, reject) => {
      socket.once("open", () => resolve(client));
      socket.once("error", reject);
      socket.once("unexpected-response", (_request, response) => {
        let text = "";
        response.on("data", (chunk) => {
          text += String(chunk);
        });
        response.on("end", () => reject(new Refused(response.statusCode ?? 0, text)));
      });
    });
  }

  /** Everything that the terminal showed, as text. */
  get screen(): string {
    return Buffer.concat(this.frames).toString("utf8");
  }

  type(text: string): void {
    this.socket.send(Buffer.from(text));
  }

  control(frame: object): void {
    this.socket.send(JSON.stringify(frame));
  }

  /** Waits until what it showed lately matches. */
  shows(pattern: RegExp): Promise<void> {
    const lately = () => Buffer.concat(this.frames.slice(-LATE_FRAMES)).toString("utf8");
    return until(() => pattern.test(lately()), `the terminal shows ${pattern}`);
  }

  /** Waits for a text frame of a type. */
  async told(type: string): Promise<Record<string, unknown>> {
    await until(() => this.texts.some((text) => text.type === type), `a ${type} frame`);
    return this.texts.find((text) => text.type === type) ?? {};
  }

  async isClosed(): Promise<{ readonly code: number; readonly reason: string }> {
    await until(() => this.closed !== null, "the socket is closed");
    return this.closed ?? { code: 0, reason: "" };
  }

  async drop(): Promise<void> {
    this.socket.terminate();
    await this.isClosed();
  }
}

/** The host's plain HTTP answer to an upgrade. */
export class Refused extends Error {
  readonly status: number;
  readonly kind: unknown;

  constructor(status: number, body: string) {
    super(`${status} ${body}`);
    this.status = status;
    this.kind = (JSON.parse(body) as { kind?: unknown }).kind;
  }
}
