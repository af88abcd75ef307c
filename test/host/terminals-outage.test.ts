import { afterAll, beforeAll, expect, test } from "vitest";
import { VmTerminals } from "./support/terminals-fixture.ts";
import { startTestHost, type TestHost } from "./support/test-host.ts";

/** Little more than the 5 s for which a feed may be silent, in milliseconds. */
const BOUND_MS = "6000";

let bounded: TestHost;
let unbounded: TestHost;
beforeAll(async () => {
  const times = { POSTERN_SILENT_RECHECK_MS: "500" };
  bounded = await startTestHost({ ...times, POSTERN_UNCONFIRMED_SESSION_MS: BOUND_MS });
  unbounded = await startTestHost({ ...times, POSTERN_UNCONFIRMED_SESSION_MS: "0" });
}, 60_000);
afterAll(async () => {
  await bounded.close();
  await unbounded.close();
});

test("a terminal outlives an outage of the edge at a host that sets no bound, and ends at another's bound", async () => {
  const ending = await (await VmTerminals.ofNewVm(bounded)).open();
  const staying = await (await VmTerminals.ofNewVm(unbounded)).open();
  for (const { edge } of [bounded, unbounded]) {
    edge.isOut = true;
    edge.cut();
  }
  expect(await ending.isClosed()).toMatchObject({ code: 1008, reason: expect.stringMatching(/could not be confirmed/) });
  staying.type("echo still he''re\r");
  await staying.shows(/still here/);
});
