import { Agent, request } from "node:http";
import { ApiClient } from "../bin/operator.ts";
import type { SystemAccess } from "../test/system/running-system.ts";
import type { Benchmark } from "./figure.ts";

const SECONDS = 8;
/** Enough to keep the object busy, and under what one isolate asks of one object at once. */
const CONCURRENCY = 48;
/** Above that limit (`OBJECT_MAX_INFLIGHT`, 500 by default). */
const OVERLOAD = 1_500;
/** One request in so many changes the identity. */
const WRITE_EVERY = 100;

/**
 * Checks a second at one identity's object with 1 % writes to it (`GET /auth/v1/whoami` reads it every time) against requests a
 * second to a bare route of the same edge. Then far more at once than an isolate asks: each must be answered rightly or shed.
 */
export const identityChecks: Benchmark = {
  id: "identity.checks_per_s",
  against: "bare route in the same workerd",
  measure: async (system) => {
    const { token, write } = await newIdentity(system);
    const check = () => status(system, "/auth/v1/whoami", { "x-freestyle-identity-access-token": token });
    await load(CONCURRENCY, 1, () => check());
    const bare = await load(CONCURRENCY, SECONDS, () => status(system, "/healthz", {}));
    const checks = await load(CONCURRENCY, SECONDS, (count) => (count % WRITE_EVERY === 0 ? write() : check()));
    mustOnlyBe(checks, [200]);
    const over = await load(OVERLOAD, SECONDS / 2, () => check());
    mustOnlyBe(over, [200, 503]);
    console.error(`  with ${OVERLOAD} at once: ${describe(over)}; every 503 names when to come back`);
    return { value: count(checks) / SECONDS, baseline: count(bare) / SECONDS, unit: "requests/s" };
  },
};

type Statuses = Map<number, number>;

const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });

/** An identity with a token, and a change to it that takes nothing from that token. */
async function newIdentity(system: SystemAccess) {
  const operator = new ApiClient(system.apiUrl, system.operatorKey);
  const { apiKey } = await operator.request<{ apiKey: string }>("POST", "/operator/v1/accounts", { name: "bench" });
  const owner = new ApiClient(system.apiUrl, apiKey);
  const { id } = await owner.request<{ id: string }>("POST", "/identity/v1/identities");
  const tokens = `/identity/v1/identities/${id}/tokens`;
  const { token } = await owner.request<{ token: string }>("POST", tokens);
  const write = async () => {
    const made = await owner.request<{ id: string }>("POST", tokens);
    await owner.request("DELETE", `${tokens}/${made.id}`);
    return 200;
  };
  return { token, write };
}

/** Keeps `concurrency` requests under way for so many seconds, and counts the answers by status. */
async function load(concurrency: number, seconds: number, one: (count: number) => Promise<number>): Promise<Statuses> {
  const statuses: Statuses = new Map();
  const end = performance.now() + seconds * 1_000;
  let sent = 0;
  const worker = async () => {
    while (performance.now() < end) {
      sent += 1;
      const answered = await one(sent);
      statuses.set(answered, (statuses.get(answered) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return statuses;
}

/** The status of an answer. Rejects when a 503 does not say when to come back. */
function status(system: SystemAccess, path: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = request(`${system.apiUrl}${path}`, { headers, agent }, (response) => {
      response.resume();
      response.once("end", () => {
        const { statusCode = 0 } = response;
        if (statusCode === 503 && response.headers["retry-after"] === undefined) reject(new Error("a 503 without Retry-After"));
        else resolve(statusCode);
      });
    });
    sent.once("error", reject).end();
  });
}

function mustOnlyBe(statuses: Statuses, allowed: readonly number[]): void {
  if ([...statuses.keys()].some((code) => !allowed.includes(code))) throw new Error(`unexpected answers: ${describe(statuses)}`);
}

function count(statuses: Statuses): number {
  return [...statuses.values()].reduce((sum, number) => sum + number, 0);
}

function describe(statuses: Statuses): string {
  return [...statuses].map(([code, number]) => `${number} × ${code}`).join(", ");
}
