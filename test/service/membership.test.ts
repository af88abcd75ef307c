import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { hostAudience } from "../../protocol/ticket.ts";
import { DEFAULT_VERIFIER_LIMITS } from "../../protocol/verifier.ts";
import { createLog } from "../../service/log.ts";
import {
  DEFAULT_MEMBERSHIP_TIMES,
  JoinRefused,
  joinRegion,
  type Membership,
  type MembershipOptions,
} from "../../service/membership.ts";
import { until } from "../host/support/until.ts";
import { startTestRegion, type TestRegion } from "./test-region.ts";

const HOST = "h".repeat(16);
const SUB = "identity:aaaaaaaaaaaaaaaa";
const FAST = { ...DEFAULT_MEMBERSHIP_TIMES, heartbeatMs: 20, redialMinMs: 5, redialMaxMs: 20, welcomeMs: 1_000 };

describe("membership", () => {
  const regions: TestRegion[] = [];
  const members: Membership[] = [];
  afterEach(async () => {
    for (const member of members.splice(0)) member.close();
    for (const region of regions.splice(0)) await region.close();
  });

  async function region(options: Parameters<typeof startTestRegion>[0] = {}): Promise<TestRegion> {
    const started = await startTestRegion(options);
    regions.push(started);
    return started;
  }

  function options(edge: TestRegion, more: Partial<MembershipOptions> = {}): MembershipOptions {
    return {
      edgeUrl: edge.url,
      credential: edge.credential,
      hello: { type: "hello", role: "host", id: HOST, url: "http://127.0.0.1:1", driver: "test", version: "1", capacity: 1 },
      audience: () => hostAudience(HOST),
      clock: Date.now,
      // A clock that a test puts forward lets time pass; setting one is `region-clock.test.ts`'s part.
      monotonic: more.clock ?? Date.now,
      log: createLog(() => undefined),
      times: FAST,
      ...more,
    };
  }

  async function join(edge: TestRegion, more: Partial<MembershipOptions> = {}): Promise<Membership> {
    const member = await joinRegion(options(edge, more));
    members.push(member);
    return member;
  }

  test("says hello first and learns its region", async () => {
    const edge = await region();
    const member = await join(edge);
    expect(member.region).toBe("test");
    expect(edge.received[0]).toMatchObject({ type: "hello", role: "host", id: HOST });
  });

  test("knows every floor that was raised before it came, before it serves", async () => {
    const edge = await region({ floors: [{ sub: SUB, epoch: 7, at: Date.now() }] });
    const member = await join(edge);
    expect([member.verifier.floors.admits(SUB, 6), member.verifier.floors.admits(SUB, 7)]).toEqual([false, true]);
    expect(member.verifier.isFeedFresh()).toBe(true);
  });

  test("raises a floor when the feed says so, tells it once, and never lowers it", async () => {
    const edge = await region();
    const raised: number[] = [];
    const member = await join(edge, { onFloor: (floor) => raised.push(floor.epoch) });
    for (const epoch of [5, 3, 5, 6]) edge.send({ type: "floor", floor: { sub: SUB, epoch, at: Date.now() } });
    await until(() => raised.includes(6), "the last floor arrived");
    expect(raised).toEqual([5, 6]);
    expect(member.verifier.floors.admits(SUB, 5)).toBe(false);
  });

  test("knows the keys that were withdrawn before it came, and says so when more are", async () => {
    const edge = await region();
    edge.voidedKeys.push("one");
    let told = 0;
    const member = await join(edge, { onDoubt: () => (told += 1) });
    expect([member.verifier.voidKeys(["one"]), told]).toEqual([false, 1]);
    edge.send({ type: "keys-voided", kids: ["one", "two"] });
    await until(() => told === 2, "it heard of the second key");
    expect(member.verifier.voidKeys(["two"])).toBe(false);
    edge.voidedKeys.push("two", "three");
    edge.cut();
    await until(() => told === 3, "it heard of the third key with its next welcome");
  });

  test("does not count a heartbeat that is answered before the welcome", async () => {
    const edge = await region({ holdWelcome: true });
    let now = 1_000_000;
    const joining = join(edge, { clock: () => now });
    await until(() => edge.pings() >= 2, "heartbeats were answered");
    edge.welcome();
    const member = await joining;
    expect(member.verifier.isFeedFresh()).toBe(true);
    // The connection breaks, and the next one answers heartbeats but brings no floors yet.
    edge.holdWelcome(true);
    edge.cut();
    const before = edge.pings();
    now += 60_000;
    await until(() => edge.pings() >= before + 2, "heartbeats of the new connection were answered");
    expect(member.verifier.isFeedFresh()).toBe(false);
    edge.welcome();
    await until(() => member.verifier.isFeedFresh(), "the welcome arrived");
  });

  test("dials again after a break, learns what it missed, and says so", async () => {
    const edge = await region();
    let welcomes = 0;
    const member = await join(edge, { onWelcome: () => (welcomes += 1) });
    edge.floors.push({ sub: SUB, epoch: 9, at: Date.now() });
    edge.cut();
    await until(() => welcomes === 2, "it was welcomed again");
    expect(member.verifier.floors.admits(SUB, 8)).toBe(false);
    expect(edge.received.filter((message) => message.type === "hello")).toHaveLength(2);
  });

  test.each([
    [140_000, 0],
    [160_000, 1],
  ])("after a break of %i ms has live sessions authorised anew if floors may have been dropped meanwhile", async (ms, doubts) => {
    const edge = await region();
    let now = 1_000_000;
    let welcomes = 0;
    let doubted = 0;
    await join(edge, { clock: () => now, onWelcome: () => (welcomes += 1), onDoubt: () => (doubted += 1) });
    expect(doubted).toBe(0);
    edge.holdWelcome(true);
    edge.cut();
    now += ms;
    await until(() => edge.received.length === 2, "it dialled again");
    edge.welcome();
    await until(() => welcomes === 2, "it was welcomed again");
    expect(doubted).toBe(doubts);
  });

  describe("whose clock is set", () => {
    const START = 1_000_000;
    let set: number;
    let passed: number;
    const settable = { clock: () => START + set + passed, monotonic: () => passed };
    beforeEach(() => {
      [set, passed] = [0, 0];
    });

    test("back while its feed is dead knows all the same that it is", async () => {
      const edge = await region();
      const member = await join(edge, settable);
      edge.mute(true);
      edge.holdWelcome(true);
      set = -30_000;
      expect(member.verifier.isFeedFresh()).toBe(true);
      passed += DEFAULT_VERIFIER_LIMITS.feedSilenceMs + 1;
      expect(member.verifier.isFeedFresh()).toBe(false);
    });

    test("ahead asks the region for its time, and says by how much it is off", async () => {
      const edge = await region();
      edge.setTime(START);
      const lines: string[] = [];
      const member = await join(edge, { ...settable, log: createLog((line) => lines.push(line)) });
      set = 30_000;
      await until(() => lines.some((line) => line.includes("clock was off") && line.includes("-30000")), "it heard the time");
      expect(edge.connections()).toBe(2);
      expect(member.verifier.isFeedFresh()).toBe(true);
    });
  });

  test("shows an assertion that was never shown before with every dial", async () => {
    const edge = await region();
    await join(edge);
    edge.cut();
    await until(() => edge.connections() >= 2, "it was let in again");
  });

  test("does not trust a feed that lost a floor: dials anew and has it from the welcome", async () => {
    const edge = await region();
    const member = await join(edge);
    // The region says that it sent a floor that never came.
    edge.lose({ sub: SUB, epoch: 4, at: Date.now() });
    await until(() => edge.connections() > 1, "a second connection");
    await until(() => !member.verifier.floors.admits(SUB, 3), "the floor");
    expect(member.verifier.floors.admits(SUB, 4)).toBe(true);
  });

  test("takes floors that come late, twice and out of order for what they are, without dialling", async () => {
    const edge = await region();
    const member = await join(edge);
    for (const [epoch, number] of [
      [3, 2],
      [2, 1],
      [3, 2],
    ] as const) {
      edge.send({ type: "floor", floor: { sub: SUB, epoch, at: Date.now() }, number });
    }
    edge.count(2);
    const pings = edge.pings();
    await until(() => edge.pings() > pings + 4, "more heartbeats");
    expect([edge.connections(), member.verifier.floors.admits(SUB, 2)]).toEqual([1, false]);
  });

  test("notices a connection that is dead without a word", async () => {
    const edge = await region();
    await join(edge);
    edge.mute(true);
    await until(() => edge.connections() >= 2, "it dialled again");
  });

  test("dials again when no welcome comes", async () => {
    const edge = await region({ holdWelcome: true });
    const joining = join(edge, { times: { ...FAST, welcomeMs: 50 } });
    await until(() => edge.connections() >= 2, "it dialled again");
    edge.holdWelcome(false);
    expect((await joining).region).toBe("test");
  });

  test("keeps dialling while the edge has trouble", async () => {
    const edge = await region({ failWith: 503 });
    const joining = join(edge);
    await until(() => edge.attempts() >= 3, "it tried again and again");
    edge.failWith(null);
    expect((await joining).region).toBe("test");
  });

  test.each([401, 403])("gives up when the edge refuses the service with %i", async (status) => {
    const edge = await region({ failWith: status });
    await expect(joinRegion(options(edge))).rejects.toThrow(JoinRefused);
    expect(edge.attempts()).toBe(1);
  });

  test("gives up when the region refuses the hello", async () => {
    const edge = await region({ refuse: "another host has this id" });
    await expect(joinRegion(options(edge))).rejects.toThrow("another host has this id");
  });

  test("never shows an assertion in a log or an error", async () => {
    const edge = await region({ failWith: 401 });
    const lines: string[] = [];
    const assertion = await edge.credential.assertion();
    const credential = { ...edge.credential, assertion: () => Promise.resolve(assertion) };
    const log = createLog((line) => lines.push(line));
    const error = await joinRegion(options(edge, { credential, log })).catch((thrown: Error) => thrown);
    expect(`${lines.join("")}${String(error)}`).not.toContain(assertion);
  });

  test("drops messages of an unknown form and goes on", async () => {
    const edge = await region();
    const member = await join(edge);
    for (const text of ["{", "[]", '{"type":"floor"}', '{"type":"floor","floor":{"sub":"x","epoch":99,"at":0}}'])
      edge.sendText(text);
    edge.send({ type: "floor", floor: { sub: SUB, epoch: 2, at: Date.now() } });
    await until(() => !member.verifier.floors.admits(SUB, 1), "the good message arrived");
    expect(edge.connections()).toBe(1);
  });

  test("reports while the feed is up and drops reports while it is down", async () => {
    const edge = await region();
    const member = await join(edge);
    const load = { type: "host-load", freeMemory: 1, freeDisk: 1, running: 1 } as const;
    member.report(load);
    await until(() => edge.received.some((message) => message.type === "host-load"), "the report arrived");
    edge.failWith(503);
    edge.cut();
    await until(() => edge.attempts() >= 2, "it dials again");
    expect(() => member.report({ ...load, running: 2 })).not.toThrow();
  });

  test("joining can be given up, and leaves nothing that dials", async () => {
    const edge = await region({ failWith: 503 });
    const stop = new AbortController();
    const joining = joinRegion(options(edge, { signal: stop.signal }));
    await until(() => edge.attempts() >= 1, "it tried");
    stop.abort();
    await expect(joining).rejects.toThrow(JoinRefused);
    edge.failWith(null);
    expect(edge.connections()).toBe(0);
  });

  test("leaves for good when it is closed", async () => {
    const edge = await region();
    const member = await joinRegion(options(edge));
    member.close();
    await until(() => edge.open() === 0, "the socket is closed");
    expect(edge.connections()).toBe(1);
  });
});
