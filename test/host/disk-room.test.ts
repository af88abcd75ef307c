import { describe, expect, it } from "vitest";
import { type DiskFree, DiskRoom } from "../../host/disk-room.ts";
import { createLog } from "../../service/log.ts";

const MIB = 1024 ** 2;

function roomWith(look: () => Promise<DiskFree>) {
  const lines: string[] = [];
  const log = createLog((line) => lines.push(line));
  return { lines, room: new DiskRoom({ dir: "/", reserveMib: 100, reserveFiles: 50, log, look }) };
}

describe("the disk of a host", () => {
  it.each([
    [0, 100, 0, true],
    [100 * MIB - 1, 100, 0, true],
    [100 * MIB, 100, 0, false],
    [101 * MIB, 50, 1, false],
    [1_124 * MIB, Number.POSITIVE_INFINITY, 1_024, false],
    [1_124 * MIB, 49, 0, true],
    [1_124 * MIB, 0, 0, true],
  ])("with %d bytes and %d files free has %d MiB for VMs; full: %s", async (bytes, files, left, full) => {
    const { room } = roomWith(async () => ({ bytes, files }));
    expect(await room.left()).toBe(left);
    expect(await room.refusal("No VM was made.")).toEqual(
      full ? { ok: false, failure: { kind: "host-disk-full", message: expect.stringContaining("No VM was made.") } } : null,
    );
  });

  it("is called full once in the log, and once to have room again", async () => {
    let bytes = 0;
    const { room, lines } = roomWith(async () => ({ bytes, files: 100 }));
    await room.left();
    await room.refusal("");
    expect([lines.length, room.wasFull]).toEqual([1, true]);
    bytes = 500 * MIB;
    await room.left();
    await room.left();
    expect([lines.length, room.wasFull]).toEqual([2, false]);
  });

  it("that does not answer refuses nobody", async () => {
    const { room } = roomWith(() => Promise.reject(new Error("gone")));
    expect(await room.refusal("")).toBeNull();
    await expect(room.left()).rejects.toThrow("gone");
  });

  it("without a reserve is never full by its own account", async () => {
    const log = createLog(() => undefined);
    const look = async () => ({ bytes: 0, files: 0 });
    const room = new DiskRoom({ dir: "/", reserveMib: 0, reserveFiles: 0, log, look });
    expect([await room.left(), await room.refusal("")]).toEqual([0, null]);
  });

  it("is the file system's own where no other is named", async () => {
    expect(
      await new DiskRoom({ dir: "/", reserveMib: 0, reserveFiles: 0, log: createLog(() => undefined) }).left(),
    ).toBeGreaterThan(0);
  });
});
