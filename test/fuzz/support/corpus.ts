import { readFileSync } from "node:fs";

/** The kept inputs of one target: `corpus/<name>.json`, an array of strings, one character a byte. */
export function corpus(name: string): Buffer[] {
  const url = new URL(`../corpus/${name}.json`, import.meta.url);
  return (JSON.parse(readFileSync(url, "utf8")) as string[]).map((text) => Buffer.from(text, "latin1"));
}

/** Values at which parsers go wrong. */
export const NASTY = [
  "\0",
  "\r\n",
  "\xff",
  "\xff\xff\xff\xff",
  "\x7f\xff\xff\xff",
  "\0\0\0\0",
  "\x80\0\0\0",
  ":",
  ",",
  "+",
  ".",
  "=",
  "%",
  "é",
];
