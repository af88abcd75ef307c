import type { Socket } from "node:net";
import type { Log } from "../service/log.ts";
import type { Admitter } from "./admission.ts";
import type { ForwarderMetrics } from "./forwarder-metrics.ts";
import type { SessionRegister } from "./session-register.ts";
import type { TunnelTimes } from "./tunnel.ts";

/** Bounds of one connection; see the settings of the same names. */
export interface ConnectionTimes extends TunnelTimes {
  readonly targetLoginTimeoutMs: number;
  readonly closeLingerMs: number;
  /** Between two words to the host that somebody types. */
  readonly typedNoteMs: number;
}

/** What a connection of either kind works with. */
export interface ConnectionOptions {
  /** The session's id: `[a-z2-7]{16}`. */
  readonly id: string;
  readonly socket: Socket;
  /** Where the client came from. */
  readonly address: string;
  readonly admitter: Admitter;
  readonly sessions: SessionRegister;
  readonly times: ConnectionTimes;
  readonly metrics: ForwarderMetrics;
  readonly log: Log;
  /** Of its lines until the login is done, of which only so many are written. */
  readonly strangersLog: Log;
  /** Called when the login is done. */
  readonly onLogin: () => void;
}

/** A client's connection once it is known what it is. */
export interface Connection {
  readonly loggedIn: boolean;
  /** Ends the connection for a reason that is shown to the person where that can be. Safe to call at any time. */
  end(text: string): void;
  /** Tells the person that something is about to happen, where that can be shown. */
  notify(text: string): void;
}
