import { beforeEach, expect, test } from "vitest";
import { Turns } from "../../forwarder/turns.ts";

let now: number;
let later: (() => void)[];
/** What is to be called in a while. */
let after: (() => void)[];
let turns: Turns;
let done: string[];

beforeEach(() => {
  now = 0;
  later = [];
  after = [];
  done = [];
  turns = new Turns(
    () => now,
    (callback) => later.push(callback),
    (callback, ms) => {
      after.push(() => {
        now += ms;
        callback();
      });
    },
  );
});

/** Sockets have been looked at. */
function nextRound(): void {
  for (const callback of later.splice(0)) callback();
}

/** A connection with so many steps to do, of so many milliseconds each. */
function connection(name: string, stepMs: number, isStranger = false) {
  let left = 0;
  const turn = turns.join((isOver) => {
    while (left > 0) {
      left -= 1;
      now += stepMs;
      done.push(name);
      if (isOver()) break;
    }
    return left === 0;
  }, isStranger);
  return {
    known: () => turn.known(),
    ask: (more = 1, little = false) => {
      left += more;
      turn.ask(little);
    },
    leave: () => turn.leave(),
  };
}

test("a connection that uses little is served at once", () => {
  const quiet = connection("quiet", 0.1);
  now = 1_000;
  quiet.ask();
  expect(done).toEqual(["quiet"]);
});

test("a flood is cut into pieces of a millisecond, and a quiet connection is served between two of them", () => {
  const flood = connection("flood", 0.1);
  const quiet = connection("quiet", 0.1);
  now = 1_000;
  flood.ask(1_000);
  expect(done.length).toBeLessThanOrEqual(11);
  nextRound();
  expect(done.length).toBeLessThanOrEqual(22);
  quiet.ask();
  expect(done.at(-1)).toBe("quiet");
});

test("a new connection waits for its turn, however many there are, and a known one passes them", () => {
  const known = connection("known", 0.1);
  now = 1_000;
  for (let stranger = 0; stranger < 100; stranger += 1) connection("stranger", 2).ask();
  expect(done).toEqual([]);
  nextRound();
  expect(done).toEqual(["stranger"]);
  known.ask();
  expect(done).toEqual(["stranger", "known"]);
});

test("everything is done in the end", () => {
  const [one, other] = [connection("one", 0.1), connection("other", 0.3)];
  one.ask(100);
  other.ask(100);
  while (later.length > 0) nextRound();
  expect(done.filter((name) => name === "one").length).toBe(100);
  expect(done.filter((name) => name === "other").length).toBe(100);
});

test("a connection that had more than its share goes on beside an endless stream of new ones", () => {
  const heavy = connection("heavy", 1);
  now = 1_000;
  for (let used = 0; used < 500; used += 1) heavy.ask();
  done = [];
  heavy.ask(10);
  for (let round = 0; round < 1_000 && done.filter((name) => name === "heavy").length < 10; round += 1) {
    connection("stranger", 2).ask();
    nextRound();
  }
  expect(done.filter((name) => name === "heavy").length).toBe(10);
});

test("who had more than its share goes after who had less", () => {
  const [heavy, light] = [connection("heavy", 1), connection("light", 1)];
  now = 1_000;
  heavy.ask(8);
  light.ask(5);
  while (later.length > 0) nextRound();
  done = [];
  heavy.ask();
  light.ask();
  nextRound();
  nextRound();
  expect(done).toEqual(["light", "heavy"]);
});

test("a connection that left is not served any more", () => {
  const gone = connection("gone", 0.1);
  gone.ask(5);
  gone.leave();
  nextRound();
  expect(done).toEqual([]);
});

test("a connection that had more than its share is served at once while it is alone and wants little", () => {
  const user = connection("user", 0.1);
  for (let packet = 0; packet < 100; packet += 1) {
    user.ask(1, true);
    now += 0.1;
  }
  expect(done.length).toBe(100);
  expect(later).toEqual([]);
});

test("connections that had more than their share together take no more than a piece at once", () => {
  const users = Array.from({ length: 50 }, () => connection("user", 0.1));
  for (const user of users) user.ask(1, true);
  expect(done.length).toBeLessThanOrEqual(11);
  while (later.length > 0) nextRound();
  expect(done.length).toBe(50);
});

test("who had more than its share and wants little waits behind those that wait", () => {
  connection("stranger", 0.1).ask();
  connection("user", 0.1).ask(1, true);
  expect(done).toEqual([]);
  nextRound();
  expect(done).toEqual(["stranger", "user"]);
});

test("what is to be done after a piece is done at its end, also when it failed", () => {
  const failing = turns.join(() => {
    turns.afterPiece(() => done.push("after"));
    done.push("failed");
    throw new Error("failed");
  });
  now = 1_000;
  expect(() => failing.ask(false)).toThrow("failed");
  expect(done).toEqual(["failed", "after"]);
});

test("all strangers together use a quarter of the process, then nobody waits for them, and those who have logged in are served", () => {
  const known = connection("known", 0.1);
  now = 1_000;
  for (let stranger = 0; stranger < 500; stranger += 1) connection("stranger", 1, true).ask(100);
  const began = now;
  while (now - began < 20_000) {
    if (later.length > 0) nextRound();
    else after.shift()?.();
  }
  const used = done.filter((name) => name === "stranger").length;
  // A burst, and then their part.
  expect(used).toBeGreaterThan(0.24 * (now - began));
  expect(used).toBeLessThan(0.31 * (now - began));
  while (later.length > 0) nextRound();
  known.ask();
  expect(done.at(-1)).toBe("known");
  const bulk = connection("bulk", 1);
  bulk.ask(5);
  nextRound();
  expect(done.at(-1)).toBe("bulk");
});

test("a few strangers who come at once do not wait, and who has logged in is no stranger", () => {
  const strangers = Array.from({ length: 100 }, () => connection("stranger", 1, true));
  for (const stranger of strangers) stranger.ask();
  while (later.length > 0) nextRound();
  expect(done.length).toBe(100);
  const [first] = strangers;
  for (const stranger of strangers.slice(1)) stranger.ask(10);
  while (later.length > 0) nextRound();
  expect(after.length).toBe(1);
  done = [];
  first?.known();
  first?.ask();
  nextRound();
  expect(done).toEqual(["stranger"]);
});
