import { describe, expect, test } from "vitest";
import { StateReporter } from "../../host/state-reporter.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { MAX_REPORTED_STATES, type MachineStatesAnswer, type MachineStatesReport } from "../../protocol/service-api.ts";
import { UNAVAILABLE } from "../../service/edge-client.ts";
import { until } from "./support/until.ts";

interface Report {
  readonly told: readonly string[];
  readonly signal: AbortSignal;
  answer(result: Result<MachineStatesAnswer>): void;
}

const ALL_NOTED = success({ untold: [] });
const NO_ANSWER = failure(UNAVAILABLE.kind, UNAVAILABLE.message);

/** An edge whose every answer the test gives. */
class ScriptedEdge {
  readonly reports: Report[] = [];
  open = 0;
  mostAtOnce = 0;

  async reportStates({ states }: MachineStatesReport, signal: AbortSignal): Promise<Result<MachineStatesAnswer>> {
    this.open += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.open);
    const told = states.map(({ vm, state, at }) => `${vm} ${state} ${at}`);
    const result = await new Promise<Result<MachineStatesAnswer>>((resolve) => {
      this.reports.push({ told, signal, answer: resolve });
      signal.addEventListener("abort", () => resolve(NO_ANSWER));
    });
    this.open -= 1;
    return result;
  }

  async report(number: number): Promise<Report> {
    await until(() => this.reports.length >= number, `report ${number} came`);
    const report = this.reports[number - 1];
    if (report === undefined) throw new Error("no such report");
    return report;
  }
}

function reporterTo(receiver: ScriptedEdge, closeMs = 60_000) {
  return new StateReporter({ receiver, retryMs: 1, retryMaxMs: 2, closeMs, random: () => 0.5 });
}

describe("a host's reports of its machines", () => {
  test("are one at a time, each with the newest state of every machine that has changed", async () => {
    const edge = new ScriptedEdge();
    const reporter = reporterTo(edge);
    reporter.note("a", { state: "running", at: 1 });
    const first = await edge.report(1);
    reporter.note("a", { state: "suspending", at: 2 });
    reporter.note("b", { state: "running", at: 2 });
    reporter.note("a", { state: "suspended", at: 3 });
    first.answer(ALL_NOTED);
    const second = await edge.report(2);
    second.answer(ALL_NOTED);
    await reporter.close();
    expect([first.told, second.told.toSorted()]).toEqual([["a running 1"], ["a suspended 3", "b running 2"]]);
    expect([edge.reports.length, edge.mostAtOnce]).toEqual([2, 1]);
  });

  test.each(Array.from({ length: 12 }, (_, hops) => hops))(
    "leave out nothing that changes %i turns after the last one was noted",
    async (hops) => {
      const edge = new ScriptedEdge();
      const reporter = reporterTo(edge);
      reporter.note("a", { state: "running", at: 1 });
      (await edge.report(1)).answer(ALL_NOTED);
      for (let hop = 0; hop < hops; hop += 1) await null;
      reporter.note("b", { state: "running", at: 2 });
      (await edge.report(2)).answer(ALL_NOTED);
      await reporter.close();
    },
  );

  test("are repeated until the edge has noted them, however often it gives no answer", async () => {
    const edge = new ScriptedEdge();
    const reporter = reporterTo(edge);
    reporter.note("a", { state: "running", at: 1 });
    for (let number = 1; number <= 5; number += 1) (await edge.report(number)).answer(NO_ANSWER);
    (await edge.report(6)).answer(ALL_NOTED);
    await reporter.close();
    expect(edge.reports.map(({ told }) => told)).toEqual(Array.from({ length: 6 }, () => ["a running 1"]));
  });

  test("of a machine that could not be passed on come behind all others, and hold up none", async () => {
    const edge = new ScriptedEdge();
    const reporter = reporterTo(edge);
    const names = Array.from({ length: MAX_REPORTED_STATES + 5 }, (_, index) => `vm${index}`);
    reporter.note("bad", { state: "running", at: 1 });
    (await edge.report(1)).answer(NO_ANSWER);
    for (const name of names) reporter.note(name, { state: "running", at: 1 });
    const full = await edge.report(2);
    expect([full.told.length, full.told[0]]).toEqual([MAX_REPORTED_STATES, "bad running 1"]);
    full.answer(success({ untold: ["bad"] }));
    const rest = await edge.report(3);
    expect([rest.told.length, rest.told.at(-1)]).toEqual([7, "bad running 1"]);
    rest.answer(success({ untold: ["bad"] }));
    const last = await edge.report(4);
    expect(last.told).toEqual(["bad running 1"]);
    last.answer(ALL_NOTED);
    await reporter.close();
  });

  test("say before the host leaves what changed last, though the edge was away", async () => {
    const edge = new ScriptedEdge();
    const reporter = reporterTo(edge);
    reporter.note("a", { state: "running", at: 1 });
    (await edge.report(1)).answer(NO_ANSWER);
    const second = await edge.report(2);
    reporter.note("a", { state: "stopped", at: 2 });
    const closed = reporter.close();
    second.answer(ALL_NOTED);
    (await edge.report(3)).answer(ALL_NOTED);
    await closed;
    expect(edge.reports.at(-1)?.told).toEqual(["a stopped 2"]);
  });

  test("keep no host from leaving: one that fails then is not repeated, and one without an answer is given up", async () => {
    const failing = new ScriptedEdge();
    const first = reporterTo(failing);
    first.note("a", { state: "stopped", at: 1 });
    const report = await failing.report(1);
    const closed = first.close();
    report.answer(NO_ANSWER);
    await closed;
    expect(failing.reports).toHaveLength(1);

    const silent = new ScriptedEdge();
    const second = reporterTo(silent, 1);
    second.note("a", { state: "stopped", at: 1 });
    await second.close();
    expect(silent.reports[0]?.signal.aborted).toBe(true);
  });
});
