/**
 * What `caches.default` of the local edge talks to, in place of the cache of a Cloudflare location: a Worker of its own beside
 * the edge. workerd asks by HTTP: `GET` (a miss is `CF-Cache-Status: MISS`), `PUT` with the whole response as HTTP/1.1 text,
 * `PURGE`. Only what the edge enters is understood: a JSON body with a `max-age`.
 */

/** Most entries; the oldest go first. */
const MAX_ENTRIES = 10_000;
/** Largest entry, in bytes; the edge's are a few hundred. */
const MAX_BYTES = 16_384;

interface Entry {
  readonly body: string;
  /** Milliseconds since 1970 UTC. */
  readonly until: number;
}

const entries = new Map<string, Entry>();

async function serve(request: Request): Promise<Response> {
  switch (request.method) {
    case "GET":
      return find(request.url);
    case "PUT":
      return enter(request.url, await request.text());
    case "PURGE":
      return new Response(null, { status: entries.delete(request.url) ? 200 : 404 });
    default:
      return new Response(null, { status: 405 });
  }
}

function find(url: string): Response {
  const entry = entries.get(url);
  if (entry !== undefined && Date.now() < entry.until) {
    return new Response(entry.body, { headers: { "cf-cache-status": "HIT", "content-type": "application/json" } });
  }
  entries.delete(url);
  return new Response(null, { status: 504, headers: { "cf-cache-status": "MISS" } });
}

function enter(url: string, message: string): Response {
  const end = message.indexOf("\r\n\r\n");
  const maxAge = /^cache-control:.*\bmax-age=(\d{1,6})\b/im.exec(message.slice(0, end))?.[1];
  if (end < 0 || maxAge === undefined) return new Response(null, { status: 400 });
  if (message.length > MAX_BYTES) return new Response(null, { status: 413 });
  entries.delete(url);
  entries.set(url, { body: bodyOf(message, end), until: Date.now() + Number(maxAge) * 1000 });
  for (const oldest of entries.keys()) {
    if (entries.size <= MAX_ENTRIES) break;
    entries.delete(oldest);
  }
  return new Response(null, { status: 204 });
}

/** The body of an HTTP/1.1 message, which workerd may send in chunks (RFC 9112 section 7.1); ASCII, as JSON of ours is. */
function bodyOf(message: string, end: number): string {
  const rest = message.slice(end + 4);
  if (!/^transfer-encoding: *chunked/im.test(message.slice(0, end))) return rest;
  let body = "";
  for (let at = 0; ; ) {
    const line = rest.indexOf("\r\n", at);
    const size = Number.parseInt(rest.slice(at, line), 16);
    if (line < 0 || !(size > 0)) return body;
    body += rest.slice(line + 2, line + 2 + size);
    at = line + 2 + size + 2;
  }
}

export default { fetch: serve };
