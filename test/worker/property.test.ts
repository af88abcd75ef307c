import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { everyEndpoint } from "./support/endpoints.ts";
import {
  type Account,
  call,
  type Identity,
  newAccount,
  newIdentity,
  newVm,
  OPERATOR_KEY,
  openWorld,
  type World,
} from "./support/world.ts";

/** Requests to each route. */
const RUNS = 12;

/** Most of an answer that is read, and for how long: some go on until their reader leaves. */
const MAX_READ_BYTES = 200_000;
const MAX_READ_MS = 300;

let world: World;
/** Whose things nobody else may see. */
let owner: Account;
let owned: { readonly vmId: string; readonly identity: Identity };
/** Who tries. */
let other: Account;
let others: { readonly vmId: string; readonly identity: Identity };
const MARKER = "only-its-owner-may-read-this";

beforeAll(async () => {
  world = await openWorld();
  [owner, other] = [await newAccount(), await newAccount()];
  owned = await things(owner, MARKER);
  others = await things(other, "other");
});

async function things(account: Account, name: string) {
  const vmId = await newVm(account, { name });
  return { vmId, identity: await newIdentity(account, [vmId]) };
}

interface Sent {
  readonly names: readonly string[];
  readonly query: string;
  readonly headers: Record<string, string>;
  readonly body: string | undefined;
  readonly credential: keyof typeof CREDENTIALS;
  readonly header: "authorization" | "x-freestyle-identity-access-token";
}

const CREDENTIALS = {
  none: () => null,
  empty: () => "",
  nonsense: () => "psk_nonsense",
  forged: () => `${other.key.slice(0, -1)}${other.key.endsWith("a") ? "b" : "a"}`,
  swapped: () => `pst${other.key.slice(3)}`,
  shouted: () => other.key.toUpperCase(),
  service: () => world.serviceKey,
  operator: () => OPERATOR_KEY,
  key: () => other.key,
  token: () => others.identity.token,
} as const;

const LIVE: ReadonlySet<string> = new Set(["key", "token"]);

/** What may stand in a header, as a client's library would let it. */
const headerText = fc.string({
  unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
  maxLength: 60,
});
/** What a segment of the path names: the caller's own thing of that kind, somebody else's, or nothing that there is. */
const name = fc.oneof(
  { weight: 6, arbitrary: fc.constant("$own") },
  { weight: 3, arbitrary: fc.constant("$theirs") },
  { weight: 1, arbitrary: fc.constantFrom("..", "%2F", "%00", "%E0", "ri-aaaaaaaaaaaaaaaaaaaa", "0", "slug", "a".repeat(20)) },
  { weight: 1, arbitrary: fc.string({ maxLength: 70 }) },
  { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 20 }) },
);
/** Members that the schemas know, with values that they may not. */
const known = fc.dictionary(
  fc.constantFrom(
    ...["command", "timeoutMs", "linuxUser", "env", "stdin", "terminal", "vmId", "allowedUsers", "allowedLinuxUsers", "name"],
    ...["users", "groups", "template", "spec", "snapshot", "firewall", "content", "encoding", "services", "slug", "metadata"],
    ...["expiresInSeconds", "managed", "resources", "snapshotId", "publicKey", "__proto__", "constructor"],
  ),
  fc.oneof(fc.jsonValue({ maxDepth: 3 }), fc.constantFrom("$vm", "$otherVm", -1, 1e308, 2 ** 53)),
  { maxKeys: 6 },
);
const sent: fc.Arbitrary<Sent> = fc.record({
  names: fc.array(name, { minLength: 3, maxLength: 3 }),
  query: fc.oneof(
    fc.constant(""),
    fc.constantFrom("limit=0", "limit=1e9", "offset=-1", "vmId=$vm", "path=%2F", "ticket=x.y.z", "linuxUser=root", "verdict=x"),
    fc.string({ maxLength: 40 }),
  ),
  headers: fc.dictionary(
    fc.constantFrom(
      ...["content-type", "range", "x-freestyle-vm-linux-user-id", "x-freestyle-background-after-secs", "x-freestyle-team-id"],
      ...["accept", "origin", "x-forwarded-for", "upgrade", "sec-websocket-protocol", "content-encoding", "if-match"],
    ),
    fc.oneof(headerText, fc.constantFrom("0", "5", "root", "bytes=0-", "bytes=9-1", "application/json", "gzip")),
    { maxKeys: 4 },
  ),
  body: fc.oneof(
    fc.constant(undefined),
    known.map((value) => JSON.stringify(value)),
    fc.jsonValue().map((value) => JSON.stringify(value)),
    fc.string({ unit: "binary", maxLength: 300 }),
  ),
  credential: fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom("key" as const) },
    { weight: 3, arbitrary: fc.constantFrom("token" as const) },
    { weight: 4, arbitrary: fc.constantFrom(...(Object.keys(CREDENTIALS) as (keyof typeof CREDENTIALS)[])) },
  ),
  header: fc.oneof(
    { weight: 5, arbitrary: fc.constant("authorization" as const) },
    { weight: 1, arbitrary: fc.constant("x-freestyle-identity-access-token" as const) },
  ),
});

/** Puts the ids of the day where the generator left their names. */
function filled(text: string): string {
  return text.replaceAll("$otherVm", others.vmId).replaceAll("$vm", owned.vmId);
}

function pathOf(pattern: string, names: readonly string[]): string {
  let next = 0;
  return pattern.replaceAll(/\{(\w+)\}/g, (_whole, kind: string) => {
    const named = names[next++ % names.length] ?? "";
    if (named === "$own" || named === "$theirs") return idOf(kind, named === "$own" ? others : owned);
    if (named.startsWith("%")) return named;
    // A segment that is empty or dots is no segment: the URL would name another route.
    return encodeURIComponent(named.toWellFormed()).replace(/^\.{0,2}$/, "%2E%2E%2E");
  });
}

function idOf(kind: string, { vmId, identity }: typeof owned): string {
  const ids: Readonly<Record<string, string>> = { vmId, identityId: identity.id, tokenId: identity.tokenId, path: "%2Fetc%2Fmotd" };
  return ids[kind] ?? "something";
}

async function readSome(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  if (reader === undefined) return "";
  const decoder = new TextDecoder();
  let text = "";
  let timer: ReturnType<typeof setTimeout> | null = null;
  const enough = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), MAX_READ_MS);
  });
  while (text.length < MAX_READ_BYTES) {
    const chunk = await Promise.race([reader.read(), enough]);
    if (chunk === null || chunk.done) break;
    text += decoder.decode(chunk.value, { stream: true });
  }
  if (timer !== null) clearTimeout(timer);
  await reader.cancel().catch(() => undefined);
  return text;
}

/** Those that delete come last, so that there is something to ask the others for. */
const inOrder = [
  ...everyEndpoint.filter(({ endpoint }) => endpoint.method !== "delete"),
  ...everyEndpoint.filter(({ endpoint }) => endpoint.method === "delete"),
];

describe.each(inOrder)("$name", ({ endpoint }) => {
  it("answers whatever is sent with something well-formed, lets no stranger in, and shows nobody else's things", async () => {
    await fc.assert(
      fc.asyncProperty(sent, async ({ names, query, headers, body, credential, header }) => {
        const method = endpoint.method.toUpperCase();
        const path = pathOf(endpoint.path, names);
        const shown = CREDENTIALS[credential]();
        const withBody = method === "GET" ? undefined : body?.toWellFormed();
        const response = await call(`${path}?${encodeURI(filled(query).toWellFormed())}`, {
          method,
          headers: { ...headers, ...(shown === null ? {} : { [header]: header === "authorization" ? `Bearer ${shown}` : shown }) },
          ...(withBody === undefined ? {} : { body: filled(withBody) }),
        });
        response.webSocket?.accept();
        response.webSocket?.close();
        const text = await readSome(response);

        expect(response.status === 503 || response.status < 500, `${response.status} ${text}`).toBe(true);
        expect(response.headers.get("content-type") ?? "").not.toContain("html");
        if (response.status >= 400) expectFailure(response, text);
        const isNoRoute = response.headers.has("allow") || text.includes("There is nothing at this path.");
        if (!LIVE.has(credential) && !isNoRoute) expect(response.status).toBe(401);
        for (const secret of [MARKER, owner.accountId, owner.key, owned.identity.token]) expect(text).not.toContain(secret);
        if (path.includes(owned.vmId) || path.includes(owned.identity.id)) expect(response.status).toBeGreaterThanOrEqual(400);
      }),
      { numRuns: RUNS },
    );
  });
});

function expectFailure(response: Response, text: string): void {
  expect(response.headers.get("content-type")).toContain("application/json");
  expect(response.headers.get("x-freestyle-trace-id")).toMatch(/^[0-9a-f]{32}$/);
  expect(JSON.parse(text)).toMatchObject({
    code: expect.stringMatching(/^[A-Z_]+$/),
    message: expect.stringMatching(/./),
    error: expect.stringMatching(/^[A-Z_]+$/),
    description: expect.stringMatching(/./),
  });
}
