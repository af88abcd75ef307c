import { describe, expect, it } from "vitest";
import type { VmState } from "../../durable-objects/vm-contract.ts";
import { type Command, type Intent, shownState, stateAfter, stepFor } from "../../durable-objects/vm-lifecycle.ts";
import { MACHINE_STATES } from "../../protocol/host-api.ts";

const STATES: VmState[] = ["starting", "running", "suspending", "suspended", "stopped", "deleted", "lost"];
const COMMANDS: Command[] = ["start", "stop", "suspend", "delete"];
const INTENTS: (Intent | null)[] = ["create", "start", "stop", "suspend", "delete", "check", null];

describe("a command", () => {
  it("finds no VM once it is deleted", () => {
    for (const command of COMMANDS) {
      expect(stepFor("deleted", command)).toMatchObject({ kind: "refuse", failure: { kind: "vm-not-found" } });
    }
  });

  it("can only delete a VM whose machine is lost", () => {
    for (const command of ["start", "stop", "suspend"] as const) {
      expect(stepFor("lost", command)).toMatchObject({ kind: "refuse", failure: { kind: "vm-not-running" } });
    }
    expect(stepFor("lost", "delete").kind).toBe("call");
  });

  it("cannot suspend what is stopped, and leaves alone what is suspended", () => {
    expect(stepFor("stopped", "suspend")).toMatchObject({ kind: "refuse", failure: { kind: "vm-not-running" } });
    expect(stepFor("suspended", "suspend").kind).toBe("settled");
  });

  it("asks the host to start, stop and delete whatever is known here, since the host may know better", () => {
    for (const state of STATES.filter((one) => one !== "deleted" && one !== "lost")) {
      for (const command of ["start", "stop", "delete"] as const) expect(stepFor(state, command).kind).toBe("call");
    }
  });
});

describe("what a host tells", () => {
  it("never brings a deleted VM back", () => {
    for (const machine of MACHINE_STATES) {
      for (const intent of INTENTS) expect(stateAfter("deleted", machine, intent)).toBe("deleted");
    }
  });

  it("makes a VM lost when its machine is missing, unless that is what was wanted or is not there yet", () => {
    for (const intent of INTENTS) {
      const expected = intent === "create" || intent === "delete" ? "running" : "lost";
      expect(stateAfter("running", "missing", intent)).toBe(expected);
    }
  });

  it("is otherwise the state, even of a VM that was lost", () => {
    for (const machine of MACHINE_STATES.filter((one) => one !== "missing")) {
      expect(stateAfter("lost", machine, null)).toBe(machine);
      expect(stateAfter("running", machine, "check")).toBe(machine);
    }
  });
});

describe("the state that is shown", () => {
  it("is the known one when nothing is under way", () => {
    for (const state of STATES) expect(shownState(state, null)).toBe(state);
  });

  it("stays starting until a create has been seen to its end", () => {
    expect(shownState("running", "create")).toBe("starting");
    expect(shownState("deleted", "create")).toBe("deleted");
  });

  it("tells what is under way, and never that a running VM is starting", () => {
    expect(shownState("suspended", "start")).toBe("starting");
    expect(shownState("running", "start")).toBe("running");
    expect(shownState("running", "suspend")).toBe("suspending");
    expect(shownState("running", "stop")).toBe("running");
    expect(shownState("running", "check")).toBe("running");
    expect(shownState("deleted", "delete")).toBe("deleted");
  });
});
