/** Bytes `start` to `end`, both included. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

const RANGE = /^bytes=(\d{0,15})-(\d{0,15})$/i;

/**
 * Which part of `size` bytes a `Range` header asks for (RFC 9110 section 14.2). Null: the whole, as for a unit or a form that
 * is not known here, several ranges included; `unsatisfiable`: bytes that are not there, or a range that ends before it begins.
 */
export function readRange(header: string | undefined, size: number): ByteRange | null | "unsatisfiable" {
  const [, first, last] = RANGE.exec(header?.trim() ?? "") ?? [];
  if (first === undefined || last === undefined || (first === "" && last === "")) return null;
  if (first === "") {
    const length = Math.min(Number(last), size);
    return length === 0 ? "unsatisfiable" : { start: size - length, end: size - 1 };
  }
  const start = Number(first);
  const end = last === "" ? size - 1 : Math.min(Number(last), size - 1);
  return start > end ? "unsatisfiable" : { start, end };
}

/** The value of `Content-Range` for a part of `size` bytes. */
export function contentRange({ start, end }: ByteRange, size: number): string {
  return `bytes ${start}-${end}/${size}`;
}
