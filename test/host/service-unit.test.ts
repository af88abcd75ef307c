import { describe, expect, it } from "vitest";
import { renderUnit, UNIT_MARK } from "../../host/service-unit.ts";
import { serviceUnit } from "../../protocol/host-api.ts";

const PLAIN = { name: "web", mode: "service", exec: ["/bin/true"] };
const render = (members: object) => renderUnit(serviceUnit.parse({ ...PLAIN, ...members }));

describe("a unit file", () => {
  it("begins with the mark by which it may be deleted again", () => {
    expect(render({}).split("\n")[0]).toBe(UNIT_MARK);
  });

  it("runs the last command of a service after those that prepare it, and all of a oneshot in order", () => {
    const exec = ["/bin/one", "/bin/two"];
    expect(render({ exec })).toMatch(/Type=simple\nExecStartPre=\/bin\/one\nExecStart=\/bin\/two\n/);
    expect(render({ exec, mode: "oneshot" })).toMatch(/Type=oneshot\nExecStart=\/bin\/one\nExecStart=\/bin\/two\n/);
  });

  it("keeps an environment variable's value whole, whatever it holds", () => {
    const text = render({ env: { A: 'a "b" \\ %h\nExecStart=/bin/evil' } });
    expect(text).toContain('Environment="A=a \\"b\\" \\\\ %%h\\nExecStart=/bin/evil"\n');
    expect(text.split("\n").filter((line) => line.startsWith("ExecStart="))).toEqual(["ExecStart=/bin/true"]);
  });

  it("waits for the signal of a service that gives one", () => {
    expect(render({ readySignal: true })).toMatch(/Type=notify\nNotifyAccess=all\n/);
  });
});

describe("a unit is refused", () => {
  it.each([
    [{ exec: [] }],
    [{ exec: ["/bin/true\nUser=root"] }],
    [{ exec: ["/bin/true\u0000"] }],
    [{ workdir: "relative" }],
    [{ workdir: "/a\nUser=root" }],
    [{ user: "root\nExecStart=/bin/evil" }],
    [{ user: "Root" }],
    [{ group: "a b" }],
    [{ after: ["network.target ExecStart=x"] }],
    [{ wantedBy: [] }],
    [{ env: { "A B": "x" } }],
    [{ env: { "A=B\n": "x" } }],
    [{ mode: "forking" }],
    [{ timeoutSec: -1 }],
    [{ restartPolicy: { policy: "sometimes" } }],
  ])("that asks for %j", (members) => {
    expect(serviceUnit.safeParse({ ...PLAIN, ...members }).success).toBe(false);
  });
});
