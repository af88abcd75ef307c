/** What a look at one thing of a host found: `warning` is what the host can live with, `problem` what it cannot. */
export interface Finding {
  readonly verdict: "good" | "warning" | "problem";
  /** What was found, in a few words. */
  readonly found: string;
  /** What to do about it; empty when it is good. */
  readonly advice: string;
}

/** A look at one thing. Never throws: what cannot be looked at is a finding too. */
export interface Check {
  readonly name: string;
  readonly look: () => Promise<Finding>;
}

export function good(found: string): Finding {
  return { verdict: "good", found, advice: "" };
}

export function warning(found: string, advice: string): Finding {
  return { verdict: "warning", found, advice };
}

export function problem(found: string, advice: string): Finding {
  return { verdict: "problem", found, advice };
}

const MARKS = { good: "ok  ", warning: "warn", problem: "FAIL" } as const;

/** Makes every check, and prints a line for each in their order, with the advice below it. Resolves with how many are problems. */
export async function examine(checks: readonly Check[], print: (line: string) => void): Promise<number> {
  const findings = await Promise.all(checks.map(async ({ name, look }) => ({ name, ...(await look()) })));
  const width = Math.max(...checks.map(({ name }) => name.length));
  for (const { name, verdict, found, advice } of findings) {
    print(`${MARKS[verdict]}  ${name.padEnd(width)}  ${found}`);
    if (advice !== "") print(`${" ".repeat(MARKS[verdict].length + width + 4)}-> ${advice}`);
  }
  return findings.filter(({ verdict }) => verdict === "problem").length;
}
