import { expect, test } from "vitest";
import { Upkeep } from "../../forwarder/upkeep.ts";

const LIMITS = { rekeyBytes: 1_000, rekeyMs: 3_600_000, keepaliveMs: 60_000 };

function open() {
  const state = { now: 0, rekeys: 0, keepAlives: 0 };
  const actions = {
    rekey: () => {
      state.rekeys += 1;
    },
    keepAlive: () => {
      state.keepAlives += 1;
    },
  };
  return { state, upkeep: new Upkeep(LIMITS, actions, () => state.now) };
}

test("new keys come after so many bytes of both directions together, and the count starts over", () => {
  const { state, upkeep } = open();
  upkeep.received(600);
  upkeep.sent(399);
  expect(state.rekeys).toBe(0);
  upkeep.sent(1);
  expect(state.rekeys).toBe(1);
  upkeep.received(999);
  expect(state.rekeys).toBe(1);
  upkeep.received(1);
  expect(state.rekeys).toBe(2);
});

test("an idle hour brings a sign of life a minute and new keys once", () => {
  const { state, upkeep } = open();
  for (state.now = 0; state.now <= 3_600_000; state.now += 30_000) upkeep.tick();
  expect(state).toMatchObject({ rekeys: 1, keepAlives: 60 });
});

test("a session that is spoken to needs no sign of life, one that only speaks does", () => {
  const { state, upkeep } = open();
  for (state.now = 0; state.now <= 600_000; state.now += 30_000) {
    upkeep.sent(1);
    upkeep.tick();
  }
  expect(state.keepAlives).toBe(0);
  for (; state.now <= 1_200_000; state.now += 30_000) {
    upkeep.received(1);
    upkeep.tick();
  }
  expect(state.keepAlives).toBe(10);
});
