import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DriverError } from "../../host/driver.ts";
import { guestsHaveIds } from "../../host/drivers/ids-probe.ts";
import { createLog } from "../../service/log.ts";

describe("whether guests have users of their own", () => {
  let cacheDir: string;
  let lines: string[];
  let asked: number;
  beforeEach(async () => {
    cacheDir = await mkdtemp(join(tmpdir(), "postern-probe-"));
    lines = [];
    asked = 0;
  });
  afterEach(() => rm(cacheDir, { recursive: true }));

  const ask = (wish: "auto" | "on" | "off", answer: () => { lower: string; status: number }) =>
    guestsHaveIds({
      engine: {
        runWithIds: async () => {
          asked += 1;
          return answer();
        },
      },
      home: { diskDir: cacheDir },
      cacheDir,
      image: "localhost/postern-guest:any",
      ids: { first: 0x7000_0000, size: 65_536 },
      wish,
      log: createLog((line) => lines.push(line)),
    });
  const shared = () => ({ lower: `${cacheDir}/images/overlay/l/ABC`, status: 0 });

  it("is found out once for a kernel, engine and disk", async () => {
    expect([await ask("auto", shared), await ask("auto", shared), await ask("on", shared)]).toEqual([true, true, true]);
    expect([asked, lines]).toEqual([1, []]);
  });

  it.each([
    [
      "the engine refuses",
      () => {
        throw new DriverError("engine", "no user namespaces");
      },
      "no user namespaces",
    ],
    ["nothing runs in one", () => ({ ...shared(), status: 126 }), "ended with 126"],
    ["the engine would copy the image for each", () => ({ lower: "/elsewhere/l/ABC", status: 0 }), "idmapped mounts"],
  ])(
    "is no where %s: said with the reason, asked again at the next start, and no start where they are wanted",
    async (_what, answer, why) => {
      expect([await ask("auto", answer), await ask("auto", answer)]).toEqual([false, false]);
      expect([asked, lines.length]).toEqual([2, 2]);
      expect(lines[0]).toContain(why);
      expect(await readdir(cacheDir)).toEqual([]);
      await expect(ask("on", answer)).rejects.toThrow(why);
    },
  );

  it("is not asked where they are turned off", async () => {
    expect([await ask("off", shared), asked]).toEqual([false, 0]);
  });
});
