import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ZodType } from "zod";
import { plainExec } from "../../worker/dialects/plain-exec.ts";
import { execEndpoints as v1 } from "../../worker/dialects/v1/exec.ts";
import { execEndpoints as v5 } from "../../worker/dialects/v5/exec.ts";

/** Values that a client may send by mistake or on purpose, in every member. */
const value = fc.oneof(
  fc.constantFrom(null, undefined, "", "true", 0, -1, 1, 1.5, 2 ** 31, 2 ** 53, Number.MAX_SAFE_INTEGER, true, {}, []),
  fc.string(),
  fc.integer(),
  fc.double(),
);
const body = fc.oneof(
  fc.record(
    {
      command: value,
      terminal: value,
      linuxUser: value,
      timeoutMs: value,
      env: fc.option(fc.dictionary(fc.string(), fc.string())),
      stdin: value,
      unknown: value,
    },
    { requiredKeys: [] },
  ),
  fc.record({ command: fc.string(), timeoutMs: value, terminal: value }, { requiredKeys: ["command"] }),
  value,
);

describe.each([
  ["v1", v1],
  ["v5", v5],
] as const)("the common body of an exec in %s", (dialect, [endpoint]) => {
  const schema = endpoint?.body as ZodType;
  const isPlain = (sent: unknown) => endpoint?.isPlainBody?.(sent) === true;

  it("is only one that the schema takes as it is", () => {
    fc.assert(
      fc.property(body, (sent) => {
        if (isPlain(sent)) expect(schema.parse(sent)).toEqual(sent);
      }),
      { numRuns: 2_000 },
    );
  });

  it("is what the SDKs send for a command, so that no schema is asked", () => {
    const unnamed = dialect === "v1" ? { terminal: null } : {};
    expect(isPlain({ command: "true" })).toBe(true);
    expect(isPlain({ command: "true", timeoutMs: null, ...unnamed })).toBe(true);
    expect(isPlain({ command: "true", timeoutMs: 1_000, ...unnamed })).toBe(true);
  });
});

it("leaves to the schema whatever it does not know to be right", () => {
  const isPlain = plainExec("terminal");
  for (const sent of [
    undefined,
    null,
    "true",
    [],
    {},
    { command: 1 },
    { timeoutMs: 1 },
    { command: "true", timeoutMs: 0 },
    { command: "true", timeoutMs: 1.5 },
    { command: "true", timeoutMs: 2 ** 53 },
    { command: "true", terminal: "pty" },
    { command: "true", linuxUser: null },
    { command: "true", env: {} },
    { command: "true", stdin: null },
  ]) {
    expect(isPlain(sent)).toBe(false);
  }
});
