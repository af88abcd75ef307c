import { failure, type Result, success } from "../../protocol/failures.ts";
import { TERMINAL_NAME_PATTERN, type TerminalDialect } from "../../protocol/host-api.ts";

/** What a directory knows of a session. */
export interface DirectoryEntry {
  readonly spec: {
    readonly number: number;
    readonly name: string;
    readonly slug: string | null;
    readonly linuxUser: string;
  };
}

/** As 0.2 has them; one of digits alone could not be told from a number. */
const SLUG_PATTERN = /^(?!\d+$)[a-z0-9-]{1,64}$/;
/** Names of expired sessions that are remembered, so that who comes back late is told so. */
const MAX_EXPIRED = 256;

/**
 * The terminal sessions of one VM by number and name, which are the VM's, and by slug, which is its Linux user's. A session
 * is its Linux user's own; root, who may do anything in the guest, reaches every one.
 */
export class SessionDirectory<Entry extends DirectoryEntry> {
  readonly #entries = new Map<number, Entry>();
  readonly #expired = new Set<string>();
  #next = 1;

  /** Takes a number and a name for a new session: the one that was wanted, or `pty-<n>`. */
  claim(wanted: string | undefined): Result<{ number: number; name: string }> {
    if (wanted !== undefined && !TERMINAL_NAME_PATTERN.test(wanted)) {
      return failure("session-id-invalid", "A session id has 1 to 64 of a-z, A-Z, 0-9, dot, underscore and hyphen.");
    }
    if (wanted !== undefined && this.#named(wanted) !== undefined) {
      return failure("session-exists", "There is a session of this id already: attach to it, or close it first.", {
        sessionId: wanted,
      });
    }
    while (wanted === undefined && this.#named(`pty-${this.#next}`) !== undefined) this.#next += 1;
    const number = this.#next;
    this.#next += 1;
    return success({ number, name: wanted ?? `pty-${number}` });
  }

  /** Checks the form of a slug and finds the Linux user's session of that name; null: there is none yet. */
  withSlug(slug: string, linuxUser: string): Result<Entry | null> {
    if (!SLUG_PATTERN.test(slug)) {
      return failure("session-id-invalid", "A slug has 1 to 64 of a-z, 0-9 and hyphen, and not digits alone.");
    }
    return success(this.all().find(({ spec }) => spec.slug === slug && spec.linuxUser === linuxUser) ?? null);
  }

  add(entry: Entry): void {
    this.#entries.set(entry.spec.number, entry);
    this.#expired.delete(entry.spec.name);
  }

  remove(entry: Entry): void {
    this.#entries.delete(entry.spec.number);
  }

  /** Removes a session whose time is over. */
  expire(entry: Entry): void {
    if (this.#entries.get(entry.spec.number) !== entry) return;
    this.remove(entry);
    this.#expired.add(entry.spec.name);
    const [oldest] = this.#expired;
    if (oldest !== undefined && this.#expired.size > MAX_EXPIRED) this.#expired.delete(oldest);
  }

  /**
   * Finds the session that a Linux user names: in `v1` by name, in `v5` by number or by slug. Of several that have the slug,
   * `preferred`'s comes first.
   */
  find(id: string, dialect: TerminalDialect, linuxUser: string, preferred = linuxUser): Result<Entry> {
    if (!TERMINAL_NAME_PATTERN.test(id)) return failure("session-id-invalid", "This is no session id.");
    const entry =
      dialect === "v1"
        ? this.#named(id)
        : /^\d+$/.test(id)
          ? this.#entries.get(Number(id))
          : this.#slugged(id, linuxUser, preferred);
    const details = { sessionId: id };
    if (entry === undefined) {
      return this.#expired.has(dialect === "v1" ? id : `pty-${id}`)
        ? failure("session-expired", "The session has exited and is no longer kept.", details)
        : failure("session-not-found", "There is no such session.", details);
    }
    if (linuxUser === "root" || entry.spec.linuxUser === linuxUser) return success(entry);
    return failure("session-user-mismatch", "The session belongs to another Linux user.", details);
  }

  /** The sessions that a Linux user may reach, oldest first. */
  visibleTo(linuxUser: string): Entry[] {
    return this.all().filter(({ spec }) => linuxUser === "root" || spec.linuxUser === linuxUser);
  }

  all(): Entry[] {
    return [...this.#entries.values()];
  }

  #named(name: string): Entry | undefined {
    return this.all().find(({ spec }) => spec.name === name);
  }

  #slugged(slug: string, linuxUser: string, preferred: string): Entry | undefined {
    const slugged = this.visibleTo(linuxUser).filter(({ spec }) => spec.slug === slug);
    return slugged.find(({ spec }) => spec.linuxUser === preferred) ?? slugged[0];
  }
}
