/** What is read of a request's URL, as `URL` has it. */
export interface UrlParts {
  readonly hostname: string;
  /** As it was sent: percent-encoded, with dot segments resolved. */
  readonly pathname: string;
  /** With its `?`; empty when there is none. */
  readonly search: string;
}

const LABELS = "(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\\.)*[a-z](?:[a-z0-9-]*[a-z0-9])?";
const BYTE = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const PORT = "(?::(?:[1-5]\\d{4}|[1-9]\\d{0,3}))?";

/** URLs in which `URL` changes nothing: no escapes to make, no numbers as hosts to read. Dot segments are looked for apart. */
const PLAIN = new RegExp(
  `^https?://(${LABELS}|${BYTE}(?:\\.${BYTE}){3})${PORT}(/[\\w~./%:@!$&()*+,;=-]*)(\\?[\\w~./%:@!$&()*+,;=?-]*)?$`,
);
const MAYBE_DOT_SEGMENT = /\/\.|%2e/i;
const MAYBE_PUNYCODE = "xn--";

/**
 * Takes a request's URL apart. Most need no parser, whose objects cost more than all the reading; whatever is not plain goes to
 * `URL`, so both ways answer the same.
 */
export function urlParts(url: string): UrlParts {
  const plain = PLAIN.exec(url);
  const [, hostname, pathname, search = ""] = plain ?? [];
  if (hostname === undefined || pathname === undefined || MAYBE_DOT_SEGMENT.test(pathname) || hostname.includes(MAYBE_PUNYCODE)) {
    return new URL(url);
  }
  return { hostname, pathname, search: search === "?" ? "" : search };
}
