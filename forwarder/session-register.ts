import type { Clock } from "../protocol/bytes.ts";
import type { FeedUpstream, SshSession } from "../protocol/feed.ts";
import type { LiveSessions } from "../service/live-sessions.ts";
import type { AdmittedClaims } from "./admission.ts";

/** A logged-in connection, as its owner sees it. */
export interface RegisteredSession {
  readonly id: string;
  readonly claims: AdmittedClaims;
  /** Where the client came from. */
  readonly address: string;
  /** Ends it; `text` is shown to the person. */
  end(text: string): void;
}

export type SessionsMessage = Extract<FeedUpstream, { type: "ssh-sessions" }>;

export interface SessionRegisterOptions {
  readonly live: LiveSessions;
  readonly clock: Clock;
  /** Sends to the region; what is lost while the feed is down comes with the next welcome. */
  readonly send: (message: SessionsMessage) => void;
  /** Changes are gathered this long, so that a burst of logins is one message. */
  readonly gatherMs: number;
}

/** Keeps a frame well under what the region takes. */
const SESSIONS_A_MESSAGE = 24;

/**
 * The forwarder's logged-in connections: checked when access narrows (`LiveSessions`), told to the region so that an
 * account can list them, and closed by id when it asks.
 */
export class SessionRegister {
  readonly #options: SessionRegisterOptions;
  readonly #open = new Map<string, { readonly session: RegisteredSession; readonly row: SshSession | null }>();
  #opened = new Set<string>();
  #closed = new Set<string>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: SessionRegisterOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Registers a session; call the answer when it is gone. */
  add(session: RegisteredSession): () => void {
    const { id, claims } = session;
    const forget = this.#options.live.add({ claims, end: (text) => session.end(text) });
    this.#open.set(id, { session, row: this.#row(session) });
    this.#opened.add(id);
    this.#gather();
    return () => {
      forget();
      if (!this.#open.delete(id)) return;
      if (!this.#opened.delete(id)) this.#closed.add(id);
      this.#gather();
    };
  }

  /** Ends a session by its account's wish. Unknown ids are ignored: it may just have ended. */
  close(id: string): void {
    this.#open.get(id)?.session.end("This session was closed by its account.");
  }

  /** The region knows nothing of this forwarder after a welcome. */
  tellAll(): void {
    this.#closed.clear();
    this.#opened = new Set(this.#open.keys());
    this.#gather();
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #row({ id, claims, address }: RegisteredSession): SshSession | null {
    const { acct, sub, vm, user, cred } = claims;
    if (acct === undefined) return null;
    return { id, account: acct, sub, vm, user, cred, address: address.slice(0, 64), since: this.#options.clock() };
  }

  #gather(): void {
    this.#timer ??= setTimeout(() => this.#flush(), this.#options.gatherMs);
  }

  #flush(): void {
    this.#timer = null;
    const opened = [...this.#opened].flatMap((id) => this.#open.get(id)?.row ?? []);
    const closed = [...this.#closed];
    this.#opened.clear();
    this.#closed.clear();
    while (opened.length > 0 || closed.length > 0) {
      const message = { opened: opened.splice(0, SESSIONS_A_MESSAGE), closed: closed.splice(0, SESSIONS_A_MESSAGE) };
      this.#options.send({ type: "ssh-sessions", ...message });
    }
  }
}
