import { createLocalJWKSet } from "jose";
import { afterEach, describe, expect, test, vi } from "vitest";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { identitySubject, tenantSubject, vmSubject } from "../../protocol/subjects.ts";
import { TicketVerifier } from "../../protocol/verifier.ts";
import { type LiveSession, LiveSessions, type RecheckTimes, type SessionChecker } from "../../service/live-sessions.ts";
import { createLog } from "../../service/log.ts";

const SUBJECT = identitySubject("a".repeat(16));
const ACCOUNT = "c".repeat(16);
const VM = "v".repeat(20);
const TIMES: RecheckTimes = { recheckDeadlineMs: 10_000, recheckRetryMs: 1_000, silentRecheckMs: 5_000, unconfirmedMs: 60_000 };
const NO_BOUND: RecheckTimes = { ...TIMES, unconfirmedMs: 0 };
const OUT_OF_REACH = "Your access could not be confirmed for too long, so the session was ended. Connect again in a moment.";

afterEach(() => {
  vi.useRealTimers();
});

function open(
  answers: Result<number>[],
  times = NO_BOUND,
): { sessions: LiveSessions; verifier: TicketVerifier; asked: () => number } {
  vi.useFakeTimers();
  let asked = 0;
  const source: SessionChecker = {
    checkSession: () => {
      asked += 1;
      return Promise.resolve(answerOf(answers.shift() ?? failure("authority-unavailable", "down")));
    },
  };
  const verifier = new TicketVerifier({
    getKey: createLocalJWKSet({ keys: [] }),
    issuer: "i",
    audience: "a",
    clock: Date.now,
  });
  verifier.feedHeard();
  const sessions = new LiveSessions({ source, verifier, times, clock: Date.now, log: createLog(() => undefined) });
  return { sessions, verifier, asked: () => asked };
}

function answerOf(answer: Result<number>) {
  return answer.ok ? success({ epoch: answer.value, accountEpoch: 3, vmEpoch: 4 }) : answer;
}

const BY_TOKEN = { cred: "c", user: "root", op: "ssh" } as const;

/** `endsInS`: when its token ends by itself; absent: never. */
function session(epoch: number, endsInS?: number): LiveSession & { readonly ended: string[] } {
  const ended: string[] = [];
  const end = endsInS === undefined ? {} : { cred_exp: Math.floor(Date.now() / 1000) + endsInS };
  const claims = {
    sub: SUBJECT,
    epoch,
    vm: VM,
    acct: ACCOUNT,
    ...BY_TOKEN,
    ...end,
    read_at: Math.floor(Date.now() / 1000),
  } as const;
  return { claims, end: (text) => ended.push(text), ended };
}

const floor = (epoch: number) => ({ sub: SUBJECT, epoch, at: Date.now() });

test("a floor at or below the session's epoch asks nothing", () => {
  const { sessions, asked } = open([]);
  sessions.add(session(3));
  sessions.onFloor(floor(3));
  expect(asked()).toBe(0);
  sessions.close();
});

test("a floor that came between ticket and registration is caught", async () => {
  const { sessions, verifier } = open([failure("credential-invalid", "revoked")]);
  verifier.floors.raise(floor(2));
  const live = session(1);
  sessions.add(live);
  await vi.advanceTimersByTimeAsync(0);
  expect(live.ended).toEqual(["Your access to this VM was revoked."]);
  sessions.close();
});

test("an answer older than the floor is asked for again", async () => {
  const { sessions, asked } = open([success(1), success(2)]);
  const live = session(1);
  sessions.add(live);
  sessions.onFloor(floor(2));
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked()).toBe(2);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(live.ended).toEqual([]);
  sessions.close();
});

test("a floor that rises during a check is checked too", async () => {
  const { sessions } = open([success(2), failure("vm-not-found", "gone")]);
  const live = session(1);
  sessions.add(live);
  sessions.onFloor(floor(2));
  sessions.onFloor(floor(3));
  await vi.advanceTimersByTimeAsync(1_000);
  expect(live.ended).toEqual(["Your access to this VM was revoked."]);
  sessions.close();
});

test("an edge out of reach is asked until the deadline, and only then is the session cut", async () => {
  const { sessions, asked } = open([]);
  const live = session(1);
  sessions.add(live);
  sessions.onFloor(floor(2));
  await vi.advanceTimersByTimeAsync(9_999);
  expect(live.ended).toEqual([]);
  expect(asked()).toBeGreaterThan(5);
  await vi.advanceTimersByTimeAsync(2);
  expect(live.ended).toHaveLength(1);
  sessions.close();
});

test("when keys are withdrawn every session is asked about once: refused ones end, the others go on", async () => {
  const { sessions, asked } = open([success(5), failure("authority-unavailable", "down"), failure("credential-invalid", "no")]);
  const [good, bad] = [session(5), session(5)];
  sessions.add(good);
  sessions.add(bad);
  sessions.recheckAll();
  await vi.advanceTimersByTimeAsync(1_000);
  expect([good.ended, bad.ended]).toEqual([[], ["Your access to this VM was revoked."]]);
  expect(asked()).toBe(3);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(good.ended).toEqual([]);
  sessions.close();
});

test("when keys are withdrawn a session that cannot be confirmed by the deadline is cut", async () => {
  const { sessions } = open([]);
  const live = session(1);
  sessions.add(live);
  sessions.recheckAll();
  await vi.advanceTimersByTimeAsync(10_001);
  expect(live.ended).toHaveLength(1);
  sessions.close();
});

test("while the feed is fresh no session is asked about for nothing; while it is silent every one is", async () => {
  const { sessions, verifier, asked } = open([]);
  sessions.add(session(1));
  sessions.add(session(1));
  await vi.advanceTimersByTimeAsync(4_000);
  verifier.feedHeard();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked()).toBe(0);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(asked()).toBe(2);
  sessions.close();
});

test("a session ends with its token, once, though neither the feed nor the edge is there; one whose token goes on does not", async () => {
  const { sessions } = open([]);
  const [brief, longer, endless] = [session(1, 60), session(1, 600), session(1)];
  for (const one of [brief, longer, endless]) sessions.add(one);
  await vi.advanceTimersByTimeAsync(55_000);
  expect(brief.ended).toEqual([]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect([brief.ended, longer.ended, endless.ended]).toEqual([["Your access to this VM was revoked."], [], []]);
  sessions.close();
});

test("a session that is gone is neither asked about nor ended", async () => {
  const { sessions, asked } = open([]);
  const live = session(1);
  const forget = sessions.add(live);
  forget();
  sessions.onFloor(floor(2));
  await vi.advanceTimersByTimeAsync(30_000);
  expect([asked(), live.ended]).toEqual([0, []]);
  sessions.close();
});

test.each([
  ["the account is suspended", tenantSubject(ACCOUNT), 3],
  ["the VM is deleted or moves", vmSubject(VM), 4],
] as const)("a session is checked when %s, and goes on if the edge says yes at that epoch", async (_what, sub, epoch) => {
  const { sessions, asked } = open([success(1), failure("account-suspended", "suspended")]);
  const live = session(1);
  sessions.add(live);
  sessions.onFloor({ sub, epoch, at: Date.now() });
  await vi.advanceTimersByTimeAsync(0);
  expect([asked(), live.ended]).toEqual([1, []]);
  sessions.onFloor({ sub, epoch: epoch + 1, at: Date.now() });
  await vi.advanceTimersByTimeAsync(0);
  expect(live.ended).toEqual(["Your access to this VM was revoked."]);
  sessions.close();
});

describe("while neither the feed nor the edge is there", () => {
  const SECOND = 1_000;
  const down = () => failure("authority-unavailable", "down");

  test("a session goes on for as long as is set since it was last confirmed, and then ends, once, with a reason", async () => {
    const { sessions, verifier } = open([], TIMES);
    const live = session(1);
    sessions.add(live);
    await vi.advanceTimersByTimeAsync(30 * SECOND);
    verifier.feedHeard();
    await vi.advanceTimersByTimeAsync(60 * SECOND - 1);
    expect(live.ended).toEqual([]);
    await vi.advanceTimersByTimeAsync(120 * SECOND);
    expect(live.ended).toEqual([OUT_OF_REACH]);
    sessions.close();
  });

  test("it ends no later than a tenth of the last asking after that", async () => {
    const { sessions } = open([], TIMES);
    const live = session(1);
    sessions.add(live);
    await vi.advanceTimersByTimeAsync(61 * SECOND);
    expect(live.ended).toEqual([OUT_OF_REACH]);
    sessions.close();
  });

  test("an answer counts for the session that it is about, from when it was asked; no answer, late or 503, counts for none", async () => {
    const { sessions, asked } = open([success(1), ...Array.from({ length: 60 }, down)], TIMES);
    const [answered, never] = [session(1), session(1)];
    sessions.add(answered);
    sessions.add(never);
    // The feed counts as silent 5 s after it was heard; the first question that is answered comes with the look after that.
    await vi.advanceTimersByTimeAsync(62 * SECOND);
    expect([answered.ended, never.ended]).toEqual([[], [OUT_OF_REACH]]);
    expect(asked()).toBeGreaterThan(10);
    await vi.advanceTimersByTimeAsync(10 * SECOND);
    expect(answered.ended).toEqual([OUT_OF_REACH]);
    sessions.close();
  });

  test("an edge that answers keeps a session for as long as the feed is silent", async () => {
    const { sessions } = open(
      Array.from({ length: 200 }, () => success(1)),
      TIMES,
    );
    const live = session(1);
    sessions.add(live);
    await vi.advanceTimersByTimeAsync(600 * SECOND);
    expect(live.ended).toEqual([]);
    sessions.close();
  });

  test("it is asked about twice before it ends, however seldom a silent feed makes it be asked about else", async () => {
    const { sessions, asked } = open([], { ...TIMES, silentRecheckMs: 3_600 * SECOND });
    const live = session(1);
    sessions.add(live);
    await vi.advanceTimersByTimeAsync(30 * SECOND);
    const before = asked();
    await vi.advanceTimersByTimeAsync(35 * SECOND);
    expect(live.ended).toHaveLength(1);
    expect(asked() - before).toBeGreaterThanOrEqual(2);
    sessions.close();
  });

  test("an outage that ends in the last moment cuts nobody, and the next one counts anew", async () => {
    const { sessions, verifier } = open([], TIMES);
    const live = session(1);
    sessions.add(live);
    await vi.advanceTimersByTimeAsync(59 * SECOND);
    verifier.feedHeard();
    await vi.advanceTimersByTimeAsync(59 * SECOND);
    expect(live.ended).toEqual([]);
    await vi.advanceTimersByTimeAsync(2 * SECOND);
    expect(live.ended).toEqual([OUT_OF_REACH]);
    sessions.close();
  });

  test("a machine that was asleep asks before it cuts: who is confirmed then goes on, and who is not ends", async () => {
    const { sessions } = open([success(1)], TIMES);
    const [confirmed, not] = [session(1), session(1)];
    sessions.add(confirmed);
    sessions.add(not);
    vi.setSystemTime(Date.now() + 3_600 * SECOND);
    await vi.advanceTimersByTimeAsync(9 * SECOND);
    expect([confirmed.ended, not.ended]).toEqual([[], []]);
    await vi.advanceTimersByTimeAsync(4 * SECOND);
    expect([confirmed.ended, not.ended]).toEqual([[], [OUT_OF_REACH]]);
    sessions.close();
  });

  test("with 0 it goes on for as long as that lasts", async () => {
    const { sessions } = open([], NO_BOUND);
    const live = session(1);
    sessions.add(live);
    await vi.advanceTimersByTimeAsync(24 * 3_600 * SECOND);
    expect(live.ended).toEqual([]);
    sessions.close();
  });
});
