import { z } from "zod";
import { type TerminalDialect, terminalSide } from "../../protocol/host-api.ts";

/** Text frames that the host sends; terminal bytes go in binary frames. */
export type ServerFrame =
  | {
      readonly type: "session";
      readonly number: number;
      readonly name: string;
      readonly slug: string | null;
      /** False: the session was there before this socket asked for it. */
      readonly created: boolean;
    }
  | { readonly type: "exited"; readonly exitCode: number }
  | { readonly type: "error"; readonly message: string };

/** Text frames that a client may send; its keystrokes come in binary frames. */
export type ClientFrame =
  | { readonly type: "resize"; readonly cols: number; readonly rows: number }
  | { readonly type: "signal"; readonly signal: "SIGINT" | "SIGKILL" };

/** A frame in a dialect's words, or null when the dialect has none for it: 0.1 knows no errors, the close says it all. */
export function encodeFrame(dialect: TerminalDialect, frame: ServerFrame): string | null {
  switch (frame.type) {
    case "session": {
      if (dialect === "v1") return JSON.stringify({ type: "sessionInfo", sessionId: frame.name });
      const { number, slug, created } = frame;
      return JSON.stringify({ type: "sessionInfo", sessionId: number, ...(slug === null ? {} : { slug }), created });
    }
    case "exited":
      return JSON.stringify(frame);
    case "error":
      return dialect === "v1" ? null : JSON.stringify(frame);
  }
}

const clientFrame = z.discriminatedUnion("type", [
  z.object({ type: z.literal("resize"), cols: terminalSide, rows: terminalSide }),
  // 0.1 writes signals in capitals, 0.2 in small letters.
  z.object({
    type: z.literal("signal"),
    signal: z
      .string()
      .toUpperCase()
      .pipe(z.enum(["SIGINT", "SIGKILL"])),
  }),
]);

/** Reads a client's text frame. Null for every other text: both SDKs' servers ignore what they do not know. */
export function decodeFrame(text: string): ClientFrame | null {
  try {
    return clientFrame.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
