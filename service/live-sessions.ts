import type { Clock } from "../protocol/bytes.ts";
import type { Result } from "../protocol/failures.ts";
import type { Floor } from "../protocol/floors.ts";
import type { SessionCheckAnswer, SessionCheckRequest } from "../protocol/service-api.ts";
import { type Subject, tenantSubject, vmSubject } from "../protocol/subjects.ts";
import { subjectsOf, type TicketClaims } from "../protocol/ticket.ts";
import type { TicketVerifier } from "../protocol/verifier.ts";
import { isTransient } from "./edge-client.ts";
import type { Log } from "./log.ts";
import { judgeOutage, type OutageBounds, RunningTime } from "./outage.ts";

/** Says whether a live session may go on. */
export interface SessionChecker {
  /** The epochs of what it hangs on if it may; a failure for which `isTransient` holds settles nothing. */
  checkSession(request: SessionCheckRequest, signal: AbortSignal): Promise<Result<SessionCheckAnswer>>;
}

/** What a session keeps of its ticket. */
export type LiveClaims = Pick<
  TicketClaims,
  "sub" | "epoch" | "vm" | "vm_epoch" | "acct" | "acct_epoch" | "cred" | "cred_exp" | "read_at"
> & {
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
  /** For how long a session may go on since its authority was last confirmed; 0: for as long as the outage. */
  readonly unconfirmedMs: number;
}

export interface LiveSessionsOptions {
  readonly source: SessionChecker;
  readonly verifier: TicketVerifier;
  readonly times: RecheckTimes;
  readonly clock: Clock;
  /** Milliseconds since any moment, by a clock that nobody sets; absent: the process's own. */
  readonly monotonic?: Clock;
  readonly log: Log;
}

const OUT_OF_REACH = "Your access could not be confirmed for too long, so the session was ended. Connect again in a moment.";

/** Looks in one last asking: a session ends later than it has to by no more than one of them. */
const LOOKS = 10;

interface Entry {
  readonly session: LiveSession;
  /** The newest epoch at which the edge is known to have said yes, for everything that the session hangs on. */
  readonly known: Map<Subject, number>;
  /** The epochs that floors ask for. */
  readonly required: Map<Subject, number>;
  checking: boolean;
  /** When the edge was asked what it last said yes to, by the verifier's time; at first when the ticket's facts were read. */
  confirmedAt: number;
  /** See `Standing`. */
  askingSince: number | null;
  /** Must be asked about whatever floors say. */
  doubted: boolean;
  /** Was told to end; it may take a moment until it is gone. */
  ended: boolean;
}

/**
 * Live sessions by what they hang on. A floor above a session's epoch has it checked at once at the edge, and so does every
 * `silentRecheckMs` of a silent feed, since a floor may then have been missed. A refused session ends; one under a floor
 * that cannot be checked by the deadline ends too, and so does one that was not confirmed for `unconfirmedMs` (`judgeOutage`); one whose
 * credential has ended by itself needs no answer. Only the ticket's claims are kept, no token.
 */
export class LiveSessions {
  readonly #options: LiveSessionsOptions;
  readonly #live = new Set<Entry>();
  readonly #bySubject = new Map<Subject, Set<Entry>>();
  readonly #closing = new AbortController();
  readonly #silentRecheckMs: number;
  readonly #timers: NodeJS.Timeout[];

  constructor(options: LiveSessionsOptions) {
    this.#options = options;
    const { silentRecheckMs, unconfirmedMs } = options.times;
    this.#silentRecheckMs = unconfirmedMs === 0 ? silentRecheckMs : Math.min(silentRecheckMs, unconfirmedMs / 4);
    // Long enough to ask twice.
    const bounds = { unconfirmedMs, lastAskingMs: 2 * this.#silentRecheckMs };
    const sweep = setInterval(() => {
      this.#endExpired();
      this.#checkWhenSilent();
    }, this.#silentRecheckMs);
    this.#timers = unconfirmedMs === 0 ? [sweep] : [sweep, this.#watchOutages(bounds)];
  }

  /** Registers a session; call the answer when it is gone. A floor that came in the meantime is caught here. */
  add(session: LiveSession): () => void {
    const entry: Entry = {
      session,
      known: subjectsOf(session.claims),
      required: new Map(),
      checking: false,
      confirmedAt: session.claims.read_at * 1000,
      askingSince: null,
      doubted: false,
      ended: false,
    };
    this.#live.add(entry);
    for (const subject of entry.known.keys()) {
      this.#bySubject.set(subject, (this.#bySubject.get(subject) ?? new Set()).add(entry));
      const floor = this.#options.verifier.floors.get(subject);
      if (floor !== undefined) this.#raise(entry, floor);
    }
    return () => this.#remove(entry);
  }

  /** A floor rose: its subject's older sessions are checked. */
  onFloor(floor: Floor): void {
    for (const entry of this.#bySubject.get(floor.sub) ?? []) this.#raise(entry, floor);
  }

  /** The tickets that began the sessions count for nothing any more: every session is checked. */
  recheckAll(): void {
    for (const entry of this.#live) {
      entry.doubted = true;
      if (!entry.checking) void this.#settle(entry);
    }
  }

  close(): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#closing.abort();
  }

  #remove(entry: Entry): void {
    this.#live.delete(entry);
    for (const subject of entry.known.keys()) {
      const entries = this.#bySubject.get(subject);
      entries?.delete(entry);
      if (entries?.size === 0) this.#bySubject.delete(subject);
    }
  }

  #raise(entry: Entry, { sub, epoch }: Floor): void {
    entry.required.set(sub, Math.max(entry.required.get(sub) ?? 0, epoch));
    if (isBehind(entry) && !entry.checking) void this.#settle(entry);
  }

  async #settle(entry: Entry): Promise<void> {
    const { clock, times, log } = this.#options;
    const deadline = clock() + times.recheckDeadlineMs;
    entry.checking = true;
    while (this.#isLive(entry) && isBehind(entry)) {
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
    const askedAt = this.#options.verifier.now();
    const answer = await this.#options.source.checkSession(
      { vmId: vm, linuxUser: user, operation: op, subject: sub, credentialId: cred },
      AbortSignal.any([this.#closing.signal, AbortSignal.timeout(timeoutMs)]),
    );
    if (!this.#isLive(entry)) return true;
    if (answer.ok) {
      noteAnswer(entry, answer.value);
      entry.confirmedAt = askedAt;
      entry.doubted = false;
      return !isBehind(entry);
    }
    if (isTransient(answer.failure)) return false;
    this.#end(entry, answer.failure.kind);
    return true;
  }

  #end(entry: Entry, reason: string): void {
    this.#options.log.info("session cut: access was revoked", { vm: entry.session.claims.vm, reason });
    entry.ended = true;
    entry.session.end("Your access to this VM was revoked.");
  }

  /** An end that the ticket told of: nobody has to be asked, who may be out of reach. */
  #endExpired(): void {
    const now = this.#options.verifier.now() / 1000;
    for (const entry of this.#live) {
      const { cred_exp: end } = entry.session.claims;
      if (end !== undefined && end <= now && this.#isLive(entry)) this.#end(entry, "expired");
    }
  }

  #checkWhenSilent(): void {
    if (this.#options.verifier.isFeedFresh()) return;
    for (const entry of this.#live) {
      if (!entry.checking) void this.#check(entry, this.#silentRecheckMs);
    }
  }

  #watchOutages(bounds: OutageBounds): NodeJS.Timeout {
    const monotonic = this.#options.monotonic ?? (() => performance.now());
    const lookMs = Math.max(1, bounds.lastAskingMs / LOOKS);
    const time = new RunningTime(lookMs, monotonic());
    return setInterval(() => this.#endUnconfirmed(time.look(monotonic()), bounds), lookMs);
  }

  /** `running`: see `Standing`. */
  #endUnconfirmed(running: number, bounds: OutageBounds): void {
    const { verifier, log } = this.#options;
    const isFeedFresh = verifier.isFeedFresh();
    for (const entry of this.#live) {
      const { confirmedAt, askingSince } = entry;
      const standing = { now: verifier.now(), confirmedAt: [verifier.feedHeardAt, confirmedAt], running, askingSince };
      const judgement = isFeedFresh ? "confirmed" : judgeOutage(standing, bounds);
      if (judgement === "confirmed") entry.askingSince = null;
      else entry.askingSince ??= running;
      if (judgement !== "end" || !this.#isLive(entry)) continue;
      log.warn("session cut: the edge was out of reach for too long", { vm: entry.session.claims.vm });
      entry.ended = true;
      entry.session.end(OUT_OF_REACH);
    }
  }

  #isLive(entry: Entry): boolean {
    return !this.#closing.signal.aborted && !entry.ended && this.#live.has(entry);
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

/** Whether a floor asks for more than the edge is known to have said yes at, or a yes of now is needed. */
function isBehind({ known, required, doubted }: Entry): boolean {
  return doubted || [...required].some(([subject, epoch]) => (known.get(subject) ?? 0) < epoch);
}

function noteAnswer({ session, known }: Entry, { epoch, accountEpoch, vmEpoch }: SessionCheckAnswer): void {
  const { sub, vm, acct } = session.claims;
  const answered: [Subject, number][] = [
    [sub, epoch],
    [vmSubject(vm), vmEpoch],
  ];
  if (acct !== undefined) answered.push([tenantSubject(acct), accountEpoch]);
  for (const [subject, at] of answered) known.set(subject, Math.max(known.get(subject) ?? 0, at));
}
