/**
 * SHA-256 (FIPS 180-4) of what fits into one block: at most 55 characters of ASCII, as every credential does. A library's general
 * function took six times as long, which was a twentieth of the processor time of a whole request; asking the runtime takes longer still.
 */

/** Characters that fit into one block beside the padding and the length (FIPS 180-4 section 5.1.1). */
export const MOST_SHORT_CHARACTERS = 55;

const ROUNDS = 64;
const PRIMES = firstPrimes(ROUNDS);
/** First 32 bits of the fractional parts of the cube roots of the first 64 primes (section 4.2.2). */
const ROUND_CONSTANTS = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));
/** The same of the square roots of the first 8 (section 5.3.3). */
const INITIAL_HASH = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));

/** The message schedule of the one hash that is being computed: nothing is awaited meanwhile. */
const schedule = new Int32Array(ROUNDS);

/**
 * The hash as eight numbers of 32 bits, as one string of sixteen characters, fit to be a key of a map; null for a text that is too long
 * or not ASCII.
 */
export function shortHash(text: string): string | null {
  if (!takeIn(text)) return null;
  let a = INITIAL_HASH[0] ?? 0;
  let b = INITIAL_HASH[1] ?? 0;
  let c = INITIAL_HASH[2] ?? 0;
  let d = INITIAL_HASH[3] ?? 0;
  let e = INITIAL_HASH[4] ?? 0;
  let f = INITIAL_HASH[5] ?? 0;
  let g = INITIAL_HASH[6] ?? 0;
  let h = INITIAL_HASH[7] ?? 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const sigma1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
    const choice = (e & f) ^ (~e & g);
    const first = (h + sigma1 + choice + (ROUND_CONSTANTS[round] ?? 0) + (schedule[round] ?? 0)) | 0;
    const sigma0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
    const majority = (a & b) ^ (a & c) ^ (b & c);
    h = g;
    g = f;
    f = e;
    e = (d + first) | 0;
    d = c;
    c = b;
    b = a;
    a = (first + sigma0 + majority) | 0;
  }
  schedule.fill(0);
  return halves(a, 0) + halves(b, 1) + halves(c, 2) + halves(d, 3) + halves(e, 4) + halves(f, 5) + halves(g, 6) + halves(h, 7);
}

/** Pads the text and expands it to the message schedule (section 6.2.2, step 1); false when it does not fit. */
function takeIn(text: string): boolean {
  const { length } = text;
  if (length > MOST_SHORT_CHARACTERS) return false;
  schedule.fill(0, 0, 16);
  let seen = 0;
  for (let index = 0; index < length; index += 1) {
    const code = text.charCodeAt(index);
    seen |= code;
    schedule[index >> 2] = (schedule[index >> 2] ?? 0) | (code << (24 - 8 * (index & 3)));
  }
  schedule[length >> 2] = (schedule[length >> 2] ?? 0) | (0x80 << (24 - 8 * (length & 3)));
  schedule[15] = length * 8;
  for (let round = 16; round < ROUNDS; round += 1) {
    const before15 = schedule[round - 15] ?? 0;
    const before2 = schedule[round - 2] ?? 0;
    const sigma0 = rotated(before15, 7) ^ rotated(before15, 18) ^ (before15 >>> 3);
    const sigma1 = rotated(before2, 17) ^ rotated(before2, 19) ^ (before2 >>> 10);
    schedule[round] = (schedule[round - 16] ?? 0) + sigma0 + (schedule[round - 7] ?? 0) + sigma1;
  }
  return seen < 0x80;
}

function rotated(word: number, bits: number): number {
  return (word >>> bits) | (word << (32 - bits));
}

/** One word of the hash: a working variable and the initial value that it is added to. */
function halves(variable: number, at: number): string {
  const word = variable + (INITIAL_HASH[at] ?? 0);
  return String.fromCharCode((word >>> 16) & 0xffff, word & 0xffff);
}

function fraction(value: number): number {
  return ((value % 1) * 2 ** 32) | 0;
}

function firstPrimes(count: number): readonly number[] {
  const primes: number[] = [];
  for (let candidate = 2; primes.length < count; candidate += 1) {
    if (primes.every((prime) => candidate % prime !== 0)) primes.push(candidate);
  }
  return primes;
}
