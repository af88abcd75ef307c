import { describe, expect, test } from "vitest";
import { contentRange, readRange } from "../../host/byte-range.ts";

describe("a Range header", () => {
  test.each([
    ["bytes=0-4", { start: 0, end: 4 }],
    ["bytes=5-5", { start: 5, end: 5 }],
    ["bytes=3-", { start: 3, end: 9 }],
    ["bytes=0-99", { start: 0, end: 9 }],
    ["bytes=-3", { start: 7, end: 9 }],
    ["bytes=-99", { start: 0, end: 9 }],
    ["BYTES=1-2", { start: 1, end: 2 }],
    [" bytes=1-2 ", { start: 1, end: 2 }],
  ])("%j names a part of ten bytes", (header, part) => {
    expect(readRange(header, 10)).toEqual(part);
  });

  test.each(["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=5-4", "bytes=999999999999999-"])("%j cannot be satisfied", (header) => {
    expect(readRange(header, 10)).toBe("unsatisfiable");
  });

  test.each([
    undefined,
    "",
    "bytes",
    "bytes=",
    "bytes=-",
    "bytes=a-b",
    "bytes=1-2,4-5",
    "lines=1-2",
    "bytes=1.5-2",
    "bytes=0x1-2",
    "bytes=1-2-3",
    `bytes=${"9".repeat(16)}-`,
  ])("%j is not understood, so the whole is meant", (header) => {
    expect(readRange(header, 10)).toBe(null);
  });

  test.each(["bytes=0-", "bytes=-1", "bytes=0-0"])("%j of nothing cannot be satisfied", (header) => {
    expect(readRange(header, 0)).toBe("unsatisfiable");
  });

  test("is answered by the part and the size", () => {
    expect(contentRange({ start: 2, end: 5 }, 10)).toBe("bytes 2-5/10");
  });
});
