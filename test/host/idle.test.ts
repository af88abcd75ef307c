import { describe, expect, it } from "vitest";
import { IdleWatch } from "../../host/idle.ts";

const VM = "a".repeat(20);
const OTHER = "b".repeat(20);

function watched(activityThresholdBytes: number | null = null) {
  const clock = { now: 1_000_000 };
  const idle = new IdleWatch(() => clock.now, { tunnelBytes: 1_000, glanceMs: 5_000 });
  idle.setPolicy(VM, { idleTimeoutSeconds: 60, activityThresholdBytes });
  const sweepAfter = (seconds: number) => {
    clock.now += seconds * 1000;
    return idle.sweep();
  };
  return { idle, clock, sweepAfter };
}

describe("a VM with an idle timeout", () => {
  it("is not idle a second too early, and is idle when the time is up", () => {
    const { sweepAfter } = watched();
    expect(sweepAfter(59)).toEqual([]);
    expect(sweepAfter(1)).toEqual([VM]);
  });

  it("is not idle while an operation runs, however long, and the time starts when it ends", () => {
    const { idle, sweepAfter } = watched();
    const end = idle.begin(VM);
    expect(sweepAfter(3_600)).toEqual([]);
    end();
    expect(sweepAfter(59)).toEqual([]);
    expect(sweepAfter(1)).toEqual([VM]);
  });

  it("is not idle while one of two operations runs, even if the other is ended twice", () => {
    const { idle, sweepAfter } = watched();
    const [first] = [idle.begin(VM), idle.begin(VM)];
    first();
    first();
    expect(sweepAfter(3_600)).toEqual([]);
  });

  it("is kept awake by terminal input", () => {
    const { idle, sweepAfter } = watched();
    sweepAfter(50);
    idle.note(VM);
    expect(sweepAfter(50)).toEqual([]);
  });

  it("is kept awake by a tunnel that carries bytes, and not by one that only keeps itself alive", () => {
    const { idle, sweepAfter } = watched();
    let bytes = 0;
    idle.meter(VM, () => bytes);
    bytes += 1_000;
    expect(sweepAfter(40)).toEqual([]);
    bytes += 999;
    expect(sweepAfter(40)).toEqual([]);
    bytes += 999;
    expect(sweepAfter(20)).toEqual([VM]);
  });

  it("decides by its own number of bytes where it names one", () => {
    const { idle, sweepAfter } = watched(50);
    let bytes = 0;
    idle.meter(VM, () => bytes);
    bytes += 50;
    expect(sweepAfter(60)).toEqual([]);
    bytes += 49;
    expect(sweepAfter(60)).toEqual([VM]);
  });

  it("forgets the bytes of a tunnel that is closed", () => {
    const { idle, sweepAfter } = watched();
    let bytes = 0;
    const close = idle.meter(VM, () => bytes);
    close();
    bytes += 1_000_000;
    expect(sweepAfter(60)).toEqual([VM]);
  });

  it("is not woken by what another VM does", () => {
    const { idle, sweepAfter } = watched();
    idle.begin(OTHER);
    expect(sweepAfter(60)).toEqual([VM]);
  });

  it("starts afresh with a new policy, and never is idle without one", () => {
    const { idle, sweepAfter } = watched();
    sweepAfter(59);
    idle.setPolicy(VM, { idleTimeoutSeconds: 10, activityThresholdBytes: null });
    expect(sweepAfter(9)).toEqual([]);
    expect(sweepAfter(1)).toEqual([VM]);
    idle.setPolicy(VM, { idleTimeoutSeconds: null, activityThresholdBytes: null });
    expect(sweepAfter(1_000_000)).toEqual([]);
  });

  it("sleeps when its time is up though the host's clock was set back meanwhile, and at once when it was set ahead", () => {
    const { clock, sweepAfter } = watched();
    clock.now -= 3_600_000;
    expect(sweepAfter(0)).toEqual([]);
    expect(sweepAfter(59)).toEqual([]);
    expect(sweepAfter(1)).toEqual([VM]);
    const other = watched();
    expect(other.sweepAfter(3_600)).toEqual([VM]);
  });

  it("that is woken for a glance stays awake for so long, and no longer", () => {
    const { idle, sweepAfter } = watched();
    expect(sweepAfter(60)).toEqual([VM]);
    idle.glance(VM);
    expect(sweepAfter(4)).toEqual([]);
    expect(sweepAfter(1)).toEqual([VM]);
  });

  it("is forgotten with its VM", () => {
    const { idle, sweepAfter } = watched();
    idle.forget(VM);
    expect(sweepAfter(1_000_000)).toEqual([]);
  });
});
