/**
 * Keeps the order of replies to global requests (RFC 4254 section 4: they carry no number, so a client matches them by
 * order alone) when some are answered here and the rest by the VM.
 */
export class GlobalReplies {
  /** Between two of our answers, how many replies of the VM must come first. */
  #expected = 0;
  readonly #waiting: { readonly after: number; readonly answer: Buffer }[] = [];

  /** How many of our answers wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** A request that wants a reply went on to the VM. */
  passedOn(): void {
    this.#expected += 1;
  }

  /** An answer of our own. Returns what may be sent now: it, or nothing while older requests are unanswered. */
  answered(answer: Buffer): Buffer[] {
    if (this.#expected === 0 && this.#waiting.length === 0) return [answer];
    this.#waiting.push({ after: this.#expected, answer });
    this.#expected = 0;
    return [];
  }

  /** The VM replied. Returns our answers that were waiting for exactly this reply, to be sent after it. */
  replied(): Buffer[] {
    const [first] = this.#waiting;
    if (first === undefined) {
      this.#expected = Math.max(0, this.#expected - 1);
      return [];
    }
    this.#waiting[0] = { ...first, after: first.after - 1 };
    const ready: Buffer[] = [];
    for (let head = this.#waiting[0]; head !== undefined && head.after <= 0; head = this.#waiting[0]) {
      ready.push(head.answer);
      this.#waiting.shift();
    }
    return ready;
  }
}
