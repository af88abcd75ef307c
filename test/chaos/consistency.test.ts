import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { identitySubject } from "../../protocol/subjects.ts";
import { FAITHFUL, isFloor } from "../system/edge-proxy.ts";
import { until } from "../system/poll.ts";
import { movedClock } from "./clock-of-edge.ts";
import { ChaosWorld, type Holder } from "./world.ts";

/** The bounds of `docs/consistency.md`, in milliseconds. */
const FEED_UP_MS = 2_000;
const FEED_DOWN_MS = 20_000;
const RECOVERY_MS = 30_000;

let world: ChaosWorld;
let holder: Holder;
let bystander: Holder;

beforeAll(async () => {
  world = await ChaosWorld.open();
});
afterAll(async () => {
  await world.close();
});
beforeEach(async () => {
  world.proxy.fault = FAITHFUL;
  holder = await world.newHolder();
  bystander = await world.newHolder();
  await until("both are served", RECOVERY_MS, async () =>
    (await world.exec(holder)) === 200 && (await world.exec(bystander)) === 200 ? true : undefined,
  );
});

/** Revokes, and answers how long the token went on opening the VM, in milliseconds. Whoever may is never told otherwise. */
async function timeToRefusal(boundMs: number): Promise<number> {
  await world.revoke(holder);
  const revokedAt = performance.now();
  let allowedUntil = 0;
  const seen = new Set<number>();
  await until("the token is refused", boundMs + 5_000, async () => {
    const status = await world.exec(holder);
    if (status === 200) allowedUntil = performance.now() - revokedAt;
    seen.add(await world.exec(bystander));
    return status === 401 ? true : undefined;
  });
  expect([...seen].filter((status) => status !== 200 && status !== 503)).toEqual([]);
  return allowedUntil;
}

describe("the feed", () => {
  test("up: revoked is refused within 2 s", async () => {
    expect(await timeToRefusal(FEED_UP_MS)).toBeLessThan(FEED_UP_MS);
  });

  test("that repeats, delays and reorders what it says: likewise", async () => {
    let held: string | null = null;
    world.proxy.fault = (text) => {
      if (!isFloor(text)) return [{ text, afterMs: 150 }];
      const out = [text, ...(held === null ? [] : [held])];
      held = text;
      return out.flatMap((one) => [
        { text: one, afterMs: 300 },
        { text: one, afterMs: 500 },
      ]);
    };
    expect(await timeToRefusal(FEED_UP_MS)).toBeLessThan(FEED_UP_MS);
  });

  test("that loses floors, though heartbeats go on: within 20 s, and the host has them again by itself", async () => {
    world.proxy.fault = (text) => (isFloor(text) ? [] : FAITHFUL(text));
    expect(await timeToRefusal(FEED_DOWN_MS)).toBeLessThan(FEED_DOWN_MS);
    const { floors } = world.host.membership.verifier;
    await until("the host has the floor", RECOVERY_MS, () =>
      floors.admits(identitySubject(holder.identityId), 1) ? undefined : true,
    );
  });

  test("that is dead without a word: within 20 s", async () => {
    world.proxy.fault = () => [];
    expect(await timeToRefusal(FEED_DOWN_MS)).toBeLessThan(FEED_DOWN_MS);
  });

  test("that breaks just as something is revoked: within 20 s", async () => {
    world.proxy.cut();
    expect(await timeToRefusal(FEED_DOWN_MS)).toBeLessThan(FEED_DOWN_MS);
  });
});

test("a token that ends by itself while the feed is dead is refused from its end on", async () => {
  world.proxy.fault = () => [];
  const lifeMs = 4_000;
  const madeAt = performance.now();
  const brief = await world.newHolder(lifeMs / 1000);
  let allowedUntil = 0;
  await until("the token is refused", RECOVERY_MS, async () => {
    const status = await world.exec(brief);
    if (status === 200) allowedUntil = performance.now() - madeAt;
    return status === 401 ? true : undefined;
  });
  expect(allowedUntil).toBeGreaterThan(0);
  // An exec that began before the end may be answered a moment after it.
  expect(allowedUntil).toBeLessThan(lifeMs + 1_000);
});

describe("regions", () => {
  test("a floor reaches every region, and a verifier that joins late knows it before it serves", async () => {
    await world.revoke(holder);
    const sub = identitySubject(holder.identityId);
    await until("the other region knows", FEED_UP_MS, () =>
      world.other.membership.verifier.floors.admits(sub, 1) ? undefined : true,
    );
    const late = await world.startHost("us", "late");
    expect(late.membership.verifier.floors.admits(sub, 1)).toBe(false);
  });
});

/** Uses the edge all the time while `happen` goes on, and answers every status that came. */
async function underLoad(happen: () => Promise<unknown>): Promise<Set<number>> {
  const seen = new Set<number>();
  let isOver = false;
  const load = Array.from({ length: 4 }, async () => {
    while (!isOver) seen.add(await world.exec(bystander));
  });
  await happen();
  await until("everybody is served again", RECOVERY_MS, async () => ((await world.exec(bystander)) === 200 ? true : undefined));
  isOver = true;
  await Promise.all(load);
  return seen;
}

/** Makes tokens and revokes every other one until it is told to stop; what was acknowledged counts, what was not is open. */
class Writer {
  readonly made: Holder[] = [];
  readonly revoked: Holder[] = [];
  #isOver = false;
  readonly #writing = this.#write();

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#writing;
  }

  async #write(): Promise<void> {
    for (let count = 0; !this.#isOver; count += 1) {
      try {
        const one = await world.newHolder();
        if (count % 2 === 0) {
          this.made.push(one);
          continue;
        }
        await world.revoke(one);
        this.revoked.push(one);
      } catch {
        // Not acknowledged: nobody is there, or nobody knows.
      }
    }
  }
}

/** Nobody answers, or a 503, or a success: never a refusal of somebody who may. */
const HARMLESS = new Set([0, 200, 503]);

describe.each([
  ["is killed under load and started again", "SIGKILL", (config: string) => config],
  ["is redeployed under load with another bundle", "SIGTERM", movedClock(0)],
] as const)("workerd that %s", (_how, signal, change) => {
  test("refuses nobody who may, forgets nothing that it acknowledged, and recovers by itself", async () => {
    const writer = new Writer();
    const seen = await underLoad(async () => {
      await until("there were writes", RECOVERY_MS, () => (writer.revoked.length >= 5 ? true : undefined));
      await world.edge.end(signal);
      world.edge.configure(change);
      await world.edge.serve();
    });
    await writer.stop();
    expect([...seen].filter((status) => !HARMLESS.has(status))).toEqual([]);
    for (const one of writer.revoked) expect(await world.exec(one)).toBe(401);
    for (const one of writer.made) {
      await until("what was made is there", RECOVERY_MS, async () => ((await world.exec(one)) === 200 ? true : undefined));
    }
  });
});

test("a host that restarts refuses nobody who may, and knows what was revoked while it was away", async () => {
  const { host } = world;
  const port = Number(new URL(host.url).port);
  const seen = await underLoad(async () => {
    await world.stopHost(host);
    await world.revoke(holder);
    world.host = await world.startHost("eu", "eu", { port, feedUrl: world.proxy.url });
  });
  expect([...seen].filter((status) => !HARMLESS.has(status))).toEqual([]);
  expect(await world.exec(holder)).toBe(401);
});

/** Everybody is served as ever, and what is revoked is refused, once the clocks have been told of. */
async function expectConsistent(): Promise<void> {
  await until("it serves", RECOVERY_MS, async () => ((await world.exec(bystander)) === 200 ? true : undefined));
  const seen: number[] = [];
  for (let count = 0; count < 20; count += 1) seen.push(await world.exec(bystander));
  expect(new Set(seen)).toEqual(new Set([200]));
  expect(await timeToRefusal(FEED_UP_MS)).toBeLessThan(FEED_UP_MS);
}

test.each([30_000, -30_000])("a host whose clock jumps by %i ms goes by its region's", async (skewMs) => {
  const port = Number(new URL(world.host.url).port);
  let skew = 0;
  await world.stopHost(world.host);
  world.host = await world.startHost("eu", "eu", { port, feedUrl: world.proxy.url, clock: () => Date.now() + skew });
  skew = skewMs;
  await expectConsistent();
  await world.stopHost(world.host);
  world.host = await world.startHost("eu", "eu", { port, feedUrl: world.proxy.url });
});

test.each([30_000, -30_000])(
  "an edge whose clock is off by %i ms serves who may, refuses who may not, and forgets nothing",
  async (skewMs) => {
    await world.edge.end("SIGTERM");
    world.edge.configure(movedClock(skewMs));
    await world.edge.serve();
    await expectConsistent();
    await world.edge.end("SIGTERM");
    world.edge.configure((config) => config);
    await world.edge.serve();
    await until("everybody is served again", RECOVERY_MS, async () => ((await world.exec(bystander)) === 200 ? true : undefined));
    expect(await world.exec(holder)).toBe(401);
  },
);
