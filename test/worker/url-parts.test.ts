import fc from "fast-check";
import { expect, it } from "vitest";
import { urlParts } from "../../worker/http/url-parts.ts";

const host = fc.oneof(
  fc.constantFrom(
    "a.example",
    "127.0.0.1",
    "127.1",
    "256.1.1.1",
    "0x7f.1",
    "xn--a.example",
    "a..b",
    "-a.b",
    "a-.b",
    "[::1]",
    "a_b.c",
    "A.b",
  ),
  fc.domain(),
  fc.ipV4(),
);
const port = fc.oneof(
  fc.constant(""),
  fc.integer({ min: 0, max: 70_000 }).map((number) => `:${number}`),
);
const alphabet = [..."abZ09-_.~%/:@!$&'()*+,;=?#\\ \t\"<>[]^`{|}é", "/../", "/./", "%2e", "%2E%2e", "%zz", "//", "..", "\u0000"];
const rest = fc.string({ unit: fc.constantFrom(...alphabet), maxLength: 24 });

it("takes a URL apart as the runtime's own parser does", () => {
  fc.assert(
    fc.property(fc.constantFrom("http", "https"), host, port, rest, (scheme, name, number, tail) => {
      const url = `${scheme}://${name}${number}/${tail}`;
      const parsed = URL.parse(url);
      if (parsed === null) return;
      const { hostname, pathname, search } = urlParts(url);
      expect({ hostname, pathname, search }).toEqual({
        hostname: parsed.hostname,
        pathname: parsed.pathname,
        search: parsed.search,
      });
    }),
    { numRuns: 5_000 },
  );
});
