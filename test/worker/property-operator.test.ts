import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { createApp } from "../../worker/app.ts";
import { type Account, call, newAccount, newIdentity, newVm, OPERATOR_KEY, openWorld, type World } from "./support/world.ts";

/** Requests to each route. */
const RUNS = 12;

const everyRoute = createApp().routes.flatMap(({ method, path }) =>
  method !== "ALL" && /^\/(operator|service)\/v1\/./.test(path) ? [{ method, path }] : [],
);

let world: World;
let account: Account;
let token: string;
beforeAll(async () => {
  world = await openWorld();
  account = await newAccount();
  token = (await newIdentity(account, [await newVm(account)])).token;
});

const STRANGERS = {
  nobody: () => null,
  nonsense: () => "pss_nonsense",
  "an account": () => account.key,
  "an identity": () => token,
  "what services enrol with": () => world.serviceKey,
} as const;

const segment = fc.oneof(
  fc.constantFrom("local", "a".repeat(20), "%2F", "%00", "%E0", "0", "..%2F.."),
  fc
    .string({ minLength: 1, maxLength: 40 })
    .map((text) => encodeURIComponent(text.toWellFormed()).replace(/^\.{1,2}$/, "%2E%2E%2E")),
);
const body = fc.oneof(
  fc.constant(undefined),
  fc.jsonValue().map((value) => JSON.stringify(value)),
  fc
    .dictionary(
      fc.constantFrom("name", "kind", "hostId", "vmId", "accountId", "draining", "token", "key", "linuxUser"),
      fc.jsonValue(),
    )
    .map((value) => JSON.stringify(value)),
  fc.string({ unit: "binary", maxLength: 200 }),
);

async function send(
  route: { method: string; path: string },
  names: readonly string[],
  text: string | undefined,
  shown: string | null,
) {
  let next = 0;
  const path = route.path.replaceAll(/:\w+/g, () => names[next++ % names.length] ?? "x");
  const response = await call(path, {
    method: route.method,
    headers: shown === null ? {} : { authorization: `Bearer ${shown}` },
    ...(text === undefined || route.method === "GET" ? {} : { body: text.toWellFormed() }),
  });
  return { status: response.status, type: response.headers.get("content-type") ?? "", text: await response.text() };
}

it("there are such routes", () => {
  expect(everyRoute.map(({ path }) => path)).toEqual(expect.arrayContaining(["/operator/v1/accounts", "/service/v1/ssh-tickets"]));
});

describe.each(everyRoute)("$method $path", (route) => {
  const isEnrolment = route.path === "/service/v1/enrolments";

  it("lets in nobody who is not meant, and says so in JSON", async () => {
    const stranger = fc.constantFrom(...(Object.keys(STRANGERS) as (keyof typeof STRANGERS)[]));
    await fc.assert(
      fc.asyncProperty(fc.array(segment, { minLength: 3, maxLength: 3 }), body, stranger, async (names, text, who) => {
        // Enrolling is what that key is for; a body that it does not like is refused as such.
        if (isEnrolment && who === "what services enrol with") return;
        const answer = await send(route, names, text, STRANGERS[who]());
        expect([400, 401, 403, 426], `${answer.status} ${answer.text}`).toContain(answer.status);
        if (answer.status === 400) expect(isEnrolment).toBe(true);
        expectFailure(route.path, answer.text);
      }),
      { numRuns: RUNS },
    );
  });

  it("answers the operator well-formed whatever is sent", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(segment, { minLength: 3, maxLength: 3 }), body, async (names, text) => {
        const answer = await send(route, names, text, OPERATOR_KEY);
        expect(answer.status === 503 || answer.status < 500, `${answer.status} ${answer.text}`).toBe(true);
        expect(answer.type).not.toContain("html");
        if (answer.status >= 400) expectFailure(route.path, answer.text);
      }),
      { numRuns: RUNS },
    );
  });
});

/** Services are answered in the words of `protocol/failures.ts`, operators in codes. */
function expectFailure(path: string, text: string): void {
  const named = path.startsWith("/service/")
    ? { kind: expect.stringMatching(/^[a-z-]+$/) }
    : { code: expect.stringMatching(/^[A-Z_]+$/) };
  expect(JSON.parse(text)).toMatchObject({ ...named, message: expect.stringMatching(/./) });
}
