import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { Agent, get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { ApiClient } from "../bin/operator.ts";
import { RunningSystem, type SystemAccess } from "../test/system/running-system.ts";
import { type Benchmark, median } from "./figure.ts";

const IDENTITIES = [10, 10_000, 1_000_000];
const GRANTS = [1, 100, 10_000];
const REQUESTS = 400;

/** A thing that has grown to `size`, and a request that is authorised by it. */
interface Subject {
  readonly what: "identities in an account" | "grants in an identity";
  readonly size: number;
  /** Class and id of the object whose storage is filled. */
  readonly object: readonly ["Account" | "Identity", string];
  readonly path: string;
  readonly token: string;
}

/**
 * Latency of an authorised request, read from the objects every time, with a million identities in the account against ten; the
 * table beside it has every size, for grants too. The rows are written into the objects' files while the system is stopped.
 */
export const growth: Benchmark = {
  id: "growth.authorise_ms",
  against: "the same with ten identities in the account",
  measure: async () => {
    const folder = mkdtempSync(join(tmpdir(), "postern-bench-growth-"));
    const home = join(folder, "home");
    const env = { RATE_PRINCIPAL_PER_S: "0" };
    let system = await RunningSystem.start({ home, env });
    try {
      const subjects = await makeSubjects(system.access);
      await system.stop();
      const bytes = subjects.map((subject) => fill(home, subject));
      system = await RunningSystem.start({ home, env });
      const medians = await measureAll(system.access, subjects);
      subjects.forEach(({ what, size }, index) => {
        const perRow = Math.round((bytes[index] ?? 0) / size);
        console.error(`  ${size} ${what}: ${medians[index]?.toFixed(2)} ms, ${bytes[index]} bytes, ${perRow} a row`);
      });
      return { value: medians[IDENTITIES.length - 1] ?? 0, baseline: medians[0] ?? 0, unit: "ms" };
    } finally {
      await system.stop();
      rmSync(folder, { recursive: true });
    }
  },
};

async function makeSubjects(system: SystemAccess): Promise<Subject[]> {
  const operator = new ApiClient(system.apiUrl, system.operatorKey);
  const newAccount = async () => {
    const made = await operator.request<{ accountId: string; apiKey: string }>("POST", "/operator/v1/accounts", { name: "bench" });
    return { id: made.accountId, owner: new ApiClient(system.apiUrl, made.apiKey) };
  };
  const newIdentity = async (owner: ApiClient) => {
    const { id } = await owner.request<{ id: string }>("POST", "/identity/v1/identities");
    const { token } = await owner.request<{ token: string }>("POST", `/identity/v1/identities/${id}/tokens`);
    return { id, token };
  };
  const subjects: Subject[] = [];
  for (const size of IDENTITIES) {
    const account = await newAccount();
    const { token } = await newIdentity(account.owner);
    const object = ["Account", account.id] as const;
    subjects.push({ what: "identities in an account", size, object, path: "/auth/v1/whoami", token });
  }
  const { owner } = await newAccount();
  const vm = await owner.request<{ id: string }>("POST", "/v1/vms", {});
  for (const size of GRANTS) {
    const { id, token } = await newIdentity(owner);
    await owner.request("POST", `/identity/v1/identities/${id}/permissions/vm/${vm.id}`, {});
    subjects.push({ what: "grants in an identity", size, object: ["Identity", id], path: `/v1/vms/${vm.id}`, token });
  }
  return subjects;
}

/** Adds rows up to the size to the object's file; answers the bytes of the file. */
function fill(home: string, { size, object: [className, id] }: Subject): number {
  const folder = join(home, "edge", "storage", `postern-${className}`);
  const own = className === "Account" ? "account" : "identity";
  for (const name of readdirSync(folder).filter((file) => file.endsWith(".sqlite"))) {
    const path = join(folder, name);
    const database = new DatabaseSync(path);
    const holder = database.prepare(`SELECT id FROM ${own}`).get()?.id;
    if (holder === id) {
      const numbers = `WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ${size})`;
      if (size > 1) database.exec(className === "Account" ? identities(numbers) : grants(numbers));
      database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    }
    database.close();
    if (holder === id) return statSync(path).size;
  }
  throw new Error(`there is no file of ${className} ${id}`);
}

function identities(numbers: string): string {
  return `${numbers} INSERT INTO identities (id, managed, created_at) SELECT printf('%016d', i), 0, i FROM n;
    UPDATE counts SET value = (SELECT COUNT(*) FROM identities) WHERE name = 'identities';`;
}

function grants(numbers: string): string {
  return `${numbers} INSERT INTO grants (vm_id, id, allowed_users, granted_at, granted_by)
    SELECT printf('%020d', i), printf('%016d', i), '["dev"]', i, 'bench' FROM n;`;
}

/** Median latency of each in milliseconds, one request after the other, in turns. */
async function measureAll(system: SystemAccess, subjects: readonly Subject[]): Promise<number[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const times = subjects.map((): number[] => []);
  for (let turn = -20; turn < REQUESTS; turn += 1) {
    for (const [index, { path, token }] of subjects.entries()) {
      const began = performance.now();
      await ask(`${system.apiUrl}${path}`, token, agent);
      if (turn >= 0) times[index]?.push(performance.now() - began);
    }
  }
  agent.destroy();
  return times.map(median);
}

function ask(url: string, token: string, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    get(url, { agent, headers: { "x-freestyle-identity-access-token": token } }, (response) => {
      response.resume();
      response.once("end", () => (response.statusCode === 200 ? resolve() : reject(new Error(`${url}: ${response.statusCode}`))));
    }).once("error", reject);
  });
}
