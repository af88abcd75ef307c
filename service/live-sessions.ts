import type { Clock } from "../protocol/bytes.ts";
import type { Result } from "../protocol/failures.ts";
import type { Floor } from "../protocol/floors.ts";
import type { SessionCheckRequest } from "../protocol/service-api.ts";
import type { TicketClaims } from "../protocol/ticket.ts";
import type { TicketVerifier } from "../protocol/verifier.ts";
import { isTransient } from "./edge-client.ts";
import type { Log } from "./log.ts";

/** Says whether a live session may go on. */
export interface SessionChecker {
  /** The subject's epoch if it may; a failure for which `isTransient` holds settles nothing. */
  checkSession(request: SessionCheckRequest, signal: AbortSignal): Promise<Result<number>>;
}

/** What a session keeps of its ticket. */
export type LiveClaims = Pick<TicketClaims, "sub" | "epoch" | "vm" | "cred"> & {
  readonly user: string;
  readonly op: SessionCheckRequest["operation"];
};

/** An SSH connection or a terminal's socket, as the registry sees it. */
export interface LiveSession {
  readonly claims: LiveClaims;
  /** Ends it; `text` is shown to the person. */
  end(text: string): void;
}

/** Times in milliseconds; see the settings of the same names. */
export interface RecheckTimes {
  readonly recheckDeadlineMs: number;
  readonly recheckRetryMs: number;
  readonly silentRecheckMs: number;
}

export interface LiveSessionsOptions {
  readonly source: SessionChecker;
  readonly verifier: TicketVerifier;
  readonly times: RecheckTimes;
  readonly clock: Clock;
  readonly log: Log;
}

interface Entry {
  readonly session: LiveSession;
  /** The newest epoch at which the edge is known to have said yes. */
  epoch: number;
  /** The epoch that a floor asks for. */
  required: number;
  checking: boolean;
}

/**
 * Live sessions by subject. A floor above a session's epoch has it checked at once at the edge, and so does every
 * `silentRecheckMs` of a silent feed, since a floor may then have been missed. A refused session ends; one under a floor
 * that cannot be checked by the deadline ends too. Only the ticket's claims are kept, no token.
 */
export class LiveSessions {
  readonly #options: LiveSessionsOptions;
  readonly #bySubject = new Map<string, Set<Entry>>();
  readonly #closing = new AbortController();
  readonly #silence: NodeJS.Timeout;

  constructor(options: LiveSessionsOptions) {
    this.#options = options;
    this.#silence = setInterval(() => this.#checkWhenSilent(), options.times.silentRecheckMs);
  }

  /** Registers a session; call the answer when it is gone. A floor that came in the meantime is caught here. */
  add(session: LiveSession): () => void {
    const { sub, epoch } = session.claims;
    const entry: Entry = { session, epoch, required: epoch, checking: false };
    const entries = this.#bySubject.get(sub) ?? new Set();
    this.#bySubject.set(sub, entries.add(entry));
    const floor = this.#options.verifier.floors.list().find((known) => known.sub === sub);
    if (floor !== undefined) this.#raise(entry, floor.epoch);
    return () => {
      entries.delete(entry);
      if (entries.size === 0 && this.#bySubject.get(sub) === entries) this.#bySubject.delete(sub);
    };
  }

  /** A floor rose: its subject's older sessions are checked. */
  onFloor(floor: Floor): void {
    for (const entry of this.#bySubject.get(floor.sub) ?? []) this.#raise(entry, floor.epoch);
  }

  close(): void {
    clearInterval(this.#silence);
    this.#closing.abort();
  }

  #raise(entry: Entry, epoch: number): void {
    entry.required = Math.max(entry.required, epoch);
    if (entry.epoch < entry.required && !entry.checking) void this.#settle(entry);
  }

  async #settle(entry: Entry): Promise<void> {
    const { clock, times, log } = this.#options;
    const deadline = clock() + times.recheckDeadlineMs;
    entry.checking = true;
    while (this.#isLive(entry) && entry.epoch < entry.required) {
      const left = deadline - clock();
      if (left <= 0) {
        log.warn("session cut: its access could not be confirmed", { vm: entry.session.claims.vm });
        entry.session.end("Your access could not be confirmed, so the session was ended. Connect again in a moment.");
        break;
      }
      const answered = await this.#check(entry, left);
      if (!answered) await this.#pause(Math.min(times.recheckRetryMs, left));
    }
    entry.checking = false;
  }

  /** One question to the edge. False when it gave no answer that settles anything. */
  async #check(entry: Entry, timeoutMs: number): Promise<boolean> {
    const { vm, user, op, sub, cred } = entry.session.claims;
    const answer = await this.#options.source.checkSession(
      { vmId: vm, linuxUser: user, operation: op, subject: sub, credentialId: cred },
      AbortSignal.any([this.#closing.signal, AbortSignal.timeout(timeoutMs)]),
    );
    if (!this.#isLive(entry)) return true;
    if (answer.ok) {
      entry.epoch = Math.max(entry.epoch, answer.value);
      return entry.epoch >= entry.required;
    }
    if (isTransient(answer.failure)) return false;
    this.#options.log.info("session cut: access was revoked", { vm, reason: answer.failure.kind });
    entry.session.end("Your access to this VM was revoked.");
    return true;
  }

  #checkWhenSilent(): void {
    if (this.#options.verifier.isFeedFresh()) return;
    for (const entries of this.#bySubject.values()) {
      for (const entry of entries) {
        if (!entry.checking) void this.#check(entry, this.#options.times.silentRecheckMs);
      }
    }
  }

  #isLive(entry: Entry): boolean {
    return !this.#closing.signal.aborted && this.#bySubject.get(entry.session.claims.sub)?.has(entry) === true;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms);
      const { signal } = this.#closing;
      signal.addEventListener("abort", done);
      function done(): void {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      }
    });
  }
}
