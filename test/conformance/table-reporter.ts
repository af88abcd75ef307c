import type { Reporter, TestCase, TestModule } from "vitest/node";
import { type ChecklistEntry, readChecklist, rowOf } from "./checklist.ts";
import { isAbout, isMeant, parseReference } from "./package-names.ts";

type Verdict = "passes" | "FAILS" | "not run" | "broken client";

/** Prints, after a run with conformance tests in it, each package × method of the checklist with what passes. */
export default class TableReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.filter(({ moduleId }) => moduleId.includes("/test/conformance/")).flatMap(testsOf);
    if (tests.length === 0) return;
    const lines = readChecklist().map((entry) => ({ entry, verdict: verdictOf(entry, tests) }));
    const width = Math.max(...lines.map(({ entry }) => entry.packageName.length));
    const count = (verdict: Verdict) => lines.filter((line) => line.verdict === verdict).length;
    console.log("\n Conformance: package × method\n");
    for (const { entry, verdict } of lines)
      console.log(` ${verdict.padEnd(13)} ${entry.packageName.padEnd(width)}  ${entry.method}`);
    console.log(
      `\n ${count("passes")} of ${lines.length} pass, ${count("FAILS")} fail, ${count("not run")} were not run, ${count("broken client")} no server can serve\n`,
    );
  }
}

function testsOf(module: TestModule): TestCase[] {
  return [...module.children.allTests()];
}

/** A test of the row that is about other packages only is left out: a method may have more of them in one package than in another. */
function verdictOf(entry: ChecklistEntry, tests: readonly TestCase[]): Verdict {
  if (entry.broken) return "broken client";
  const verdicts = (rowOf(entry)?.tests ?? []).flatMap((text): Verdict[] => {
    const reference = parseReference(text);
    const meant = tests.filter((test) => isMeant(reference, { file: test.module.moduleId, name: test.name }));
    const about = meant.filter((test) => isAbout(entry.packageName, test.fullName));
    if (about.length === 0) return meant.length === 0 ? ["not run"] : [];
    const states = about.map((test) => test.result().state);
    if (states.includes("failed")) return ["FAILS"];
    return [states.includes("passed") ? "passes" : "not run"];
  });
  if (verdicts.includes("FAILS")) return "FAILS";
  return verdicts.length === 0 || verdicts.includes("not run") ? "not run" : "passes";
}
