/** Which floors of a region a verifier has. The region numbers them from its first; each welcome says where it stands. */
export class FeedNumbers {
  /** Every floor up to this number is here. */
  #complete = 0;
  readonly #beyond = new Set<number>();

  /** A welcome carried every floor up to this number that still matters. */
  begin(number: number): void {
    this.#complete = number;
    this.#beyond.clear();
  }

  /** A floor arrived; repeated and out of order is fine. */
  arrived(number: number): void {
    if (number > this.#complete) this.#beyond.add(number);
    while (this.#beyond.delete(this.#complete + 1)) this.#complete += 1;
  }

  /** Whether nothing is missing when so many have been sent; null: the region does not count. */
  hasAll(sent: number | null): boolean {
    return this.#beyond.size === 0 && (sent === null || sent <= this.#complete);
  }
}
