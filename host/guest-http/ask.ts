import { type Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";

/** One visitor's request, as the guest is asked. */
export interface GuestQuestion {
  readonly address: string;
  readonly port: number;
  readonly method: string;
  readonly path: string;
  /** In the form of `IncomingMessage.rawHeaders`. */
  readonly headers: readonly string[];
  /** Its body; null when it has none. */
  readonly body: IncomingMessage | null;
  /** Where a connection may be taken from; false: a new one for this request alone. */
  readonly agent: Agent | false;
  /** Ends the exchange, whatever its state. */
  readonly end: AbortSignal;
}

export interface AskLimits {
  /** Longest wait until the guest takes the connection, in milliseconds. */
  readonly connectMs: number;
  /** Longest wait for the head of the answer from then on, in milliseconds. */
  readonly answerMs: number;
  /** Longest silence of an exchange that is no WebSocket, in milliseconds. */
  readonly idleMs: number;
}

export type GuestOutcome =
  | { readonly kind: "answer"; readonly answer: IncomingMessage; readonly socket: Socket }
  /** The guest switched protocols; `head` came right behind. */
  | { readonly kind: "switched"; readonly answer: IncomingMessage; readonly socket: Socket; readonly head: Buffer }
  /** Nobody took the connection: nothing of the request was read. */
  | { readonly kind: "unreachable" }
  /** The guest closed a connection that was kept from before, so that nobody knows whether it read the request. */
  | { readonly kind: "stale" }
  | { readonly kind: "timed-out" }
  /** The connection broke before an answer came. */
  | { readonly kind: "broken" }
  /** What came back is no answer of HTTP to what was asked. */
  | { readonly kind: "unreadable" };

/** Asks a guest. The body is not touched before the guest has taken the connection. Never throws. */
export function askGuest(question: GuestQuestion, limits: AskLimits): Promise<GuestOutcome> {
  const { address, port, method, path, headers, body, agent, end } = question;
  return new Promise((resolve) => {
    let connected = false;
    let timedOut = false;
    const asked = httpRequest({ host: address, port, method, path, headers, agent });
    const giveUp = () => {
      timedOut = true;
      asked.destroy();
    };
    const cut = () => asked.destroy();
    end.addEventListener("abort", cut, { once: true });
    asked.once("close", () => end.removeEventListener("abort", cut));
    if (end.aborted) cut();
    let timer = setTimeout(giveUp, limits.connectMs);
    const settle = (outcome: GuestOutcome) => {
      clearTimeout(timer);
      resolve(outcome);
    };
    onConnect(asked, () => {
      connected = true;
      clearTimeout(timer);
      timer = setTimeout(giveUp, limits.answerMs);
      if (body === null) asked.end();
      else body.pipe(asked);
    });
    const refuse = () => {
      settle({ kind: "unreadable" });
      asked.destroy();
    };
    asked.on("response", (answer) => {
      if (!isFinal(answer.statusCode)) return refuse();
      asked.setTimeout(limits.idleMs, () => asked.destroy());
      settle({ kind: "answer", answer, socket: answer.socket });
    });
    asked.on("upgrade", (answer, socket: Socket, head) => {
      if (asksToSwitch(headers)) return settle({ kind: "switched", answer, socket, head });
      socket.destroy();
      refuse();
    });
    // Stays after an answer came: its reader learns of the end by the answer's own events.
    asked.on("error", ({ code }: NodeJS.ErrnoException) => {
      if (!connected) settle({ kind: "unreachable" });
      else if (code?.startsWith("HPE_") === true) settle({ kind: "unreadable" });
      else if (timedOut) settle({ kind: "timed-out" });
      else settle({ kind: asked.reusedSocket ? "stale" : "broken" });
    });
  });
}

/** Whether a status can end an exchange and be passed on (RFC 9110 section 15): the edge's runtime knows no others. */
function isFinal(status = 0): boolean {
  return status >= 200 && status <= 599;
}

/** Whether raw headers ask for another protocol. */
function asksToSwitch(headers: readonly string[]): boolean {
  return headers.some((name, index) => index % 2 === 0 && name.toLowerCase() === "upgrade");
}

function onConnect(asked: ClientRequest, act: () => void): void {
  asked.once("socket", (socket) => {
    if (socket.connecting) socket.once("connect", act);
    else act();
  });
}
