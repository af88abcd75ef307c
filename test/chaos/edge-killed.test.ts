import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LocalEdge } from "../system/local-edge.ts";
import { until } from "../system/poll.ts";
import { VerifyingHost } from "../system/verifying-host.ts";
import { type Gate, GatedMachines } from "./gated-machines.ts";

const BACK_MS = 30_000;
const NAMED = ["starting", "running", "suspending", "suspended", "stopped"];
/** What an edge that is back but has not found its host yet may answer, beside what was wanted. */
const NOT_YET = 503;

/** How far the operations are when the edge is killed: a part of the way to the host, or held there. */
type Point = { readonly name: string } & ({ readonly part: number } | { readonly gate: Gate; readonly answered: boolean });

const POINTS: readonly Point[] = [
  { name: "as they are on their way into the edge", part: 0.2 },
  { name: "as their objects have written them down", part: 0.6 },
  { name: "as the host is about to be asked", part: 0.9 },
  { name: "after the host was asked, which does it all the same", gate: "do it later", answered: false },
  { name: "after the host was asked, which never does it", gate: "never do it", answered: false },
  { name: "after the host has done it, before it answers", gate: "answer later", answered: false },
  { name: "as the host has answered, before that is written down", gate: "answer later", answered: true },
];

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

let folder: string;
let edge: LocalEdge;
let host: VerifyingHost;
const machines = new GatedMachines();
let apiKey: string;
let made = 0;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "postern-edge-killed-"));
  edge = await LocalEdge.start({ folder: join(folder, "edge") });
  const { serviceKey } = await edge.operator.request<{ serviceKey: string }>("POST", "/operator/v1/regions/local/service-keys", {});
  host = await VerifyingHost.start({
    folder: join(folder, "host"),
    edgeUrl: edge.url,
    serviceKey,
    carryOut: machines.carryOut,
  });
  ({ apiKey } = await edge.operator.request<{ apiKey: string }>("POST", "/operator/v1/accounts", { name: "crashes" }));
});
afterAll(async () => {
  machines.open();
  await host.stop();
  await edge.end("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

async function call(method: string, path: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
  const response = await fetch(edge.url + path, {
    method,
    headers: { authorization: `Bearer ${apiKey}`, ...headers },
    ...(method === "POST" ? { body: "{}" } : {}),
  });
  return { status: response.status, body: (await response.json()) as Answer["body"] };
}

/** The answer of a call that is repeated for as long as the edge or its host is not back. */
const persist = (method: string, path: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> =>
  until(`${method} ${path} is answered`, BACK_MS, async () => {
    const answer = await call(method, path, { "content-type": "application/json", ...headers });
    return answer.status === NOT_YET ? undefined : answer;
  });

async function newVm(): Promise<string> {
  const { status, body } = await persist("POST", "/v1/vms");
  expect(status).toBe(200);
  return String(body.id);
}

/** Every operation under way at once, each on a VM of its own but for the one that makes one. */
async function subjects() {
  made += 1;
  const key = { "idempotency-key": `create-${made}` };
  const snapshotKey = { "idempotency-key": `snapshot-${made}` };
  const [start, suspend, snapshot, remove] = [await newVm(), await newVm(), await newVm(), await newVm()];
  expect((await persist("POST", `/v1/vms/${start}/suspend`)).status).toBe(200);
  return [
    { operation: "create", vmId: null, method: "POST", path: "/v1/vms", headers: key, becomes: "running" },
    { operation: "start", vmId: start, method: "POST", path: `/v1/vms/${start}/start`, headers: {}, becomes: "running" },
    { operation: "suspend", vmId: suspend, method: "POST", path: `/v1/vms/${suspend}/suspend`, headers: {}, becomes: "suspended" },
    {
      operation: "snapshot",
      vmId: snapshot,
      method: "POST",
      path: `/v1/vms/${snapshot}/snapshot`,
      headers: snapshotKey,
      becomes: "running",
    },
    { operation: "delete", vmId: remove, method: "DELETE", path: `/v1/vms/${remove}`, headers: {}, becomes: null },
  ] as const;
}
type Subject = Awaited<ReturnType<typeof subjects>>[number];

const begin = ({ method, path, headers }: Subject) =>
  call(method, path, { ...(method === "POST" ? { "content-type": "application/json" } : {}), ...headers }).catch(() => null);

/** The VMs that the account has, with their states. */
async function listed(): Promise<ReadonlyMap<string, string>> {
  const { body } = await persist("GET", "/v1/vms?limit=100");
  return new Map((body.vms as { id: string; state: string }[]).map(({ id, state }) => [id, state]));
}

describe("an edge that is killed while it creates, starts, suspends, snapshots and deletes", () => {
  /** From sending until the host is asked, the longest of all, milliseconds. */
  let wayMs: number;

  it("asks its host for one thing in each of them, so that no other step needs a crash here", async () => {
    const all = await subjects();
    machines.forget();
    const before = performance.now();
    for (const answer of await Promise.all(all.map(begin))) expect(answer?.status).toBe(200);
    const asked = machines.calls.map(({ operation }) => operation).sort();
    expect(asked).toEqual(all.map(({ operation }) => operation).sort());
    wayMs = Math.max(...machines.calls.map(({ at }) => at - before));
  });

  it.each(POINTS)(
    "is back with states that the API names, nothing twice, nothing lost, and retries succeed: $name",
    async (point) => {
      const all = await subjects();
      const before = new Set((await listed()).keys());
      machines.forget();
      if ("gate" in point) machines.close(point.gate);
      const answers = Promise.all(all.map(begin));
      if ("part" in point) await delay(wayMs * point.part);
      else {
        await until("the host has been asked for everything", BACK_MS, () => (machines.held === all.length ? true : undefined));
        if (point.answered) {
          machines.open();
          // The answers are on their way once the event loop has turned.
          await turn();
        }
      }
      await edge.end("SIGKILL");
      machines.open();
      await answers;
      await edge.serve();

      for (const { vmId, operation } of all) {
        if (vmId === null) continue;
        const { status, body } = await persist("GET", `/v1/vms/${vmId}`);
        if (operation === "delete" && status === 404) continue;
        expect([operation, status]).toEqual([operation, 200]);
        expect(NAMED).toContain(body.state);
      }
      const ids = new Map<Subject, string>();
      for (const subject of all) {
        const { operation, method, path, headers, vmId } = subject;
        const { status, body } = await persist(method, path, headers);
        const isGone = operation === "delete" && status === 404;
        expect([operation, isGone ? 200 : status, body]).toEqual([operation, 200, body]);
        ids.set(subject, vmId ?? String(body.id));
        // Asking again under the same key names the same thing.
        if (operation === "create") expect((await persist(method, path, headers)).body.id).toBe(body.id);
        if (operation === "snapshot") {
          expect((await persist(method, path, headers)).body.snapshotId).toBe(body.snapshotId);
          expect(machines.snapshots).toContain(body.snapshotId);
        }
      }
      const made = ids.get(all[0]) ?? "";
      const expected = new Set([...before, made]);
      expected.delete(ids.get(all[4]) ?? "");
      // What a crash has left to be undone is undone by alarm: nothing is there that nobody asked for, on either side.
      await until("edge and host have the same machines, and no other", BACK_MS, async () => {
        const there = await listed();
        return isSame(new Set(there.keys()), expected) && isSame(new Set(machines.states.keys()), expected) ? true : undefined;
      });
      const there = await listed();
      for (const subject of all) {
        const vmId = ids.get(subject) ?? "";
        expect([subject.operation, there.get(vmId) ?? null]).toEqual([subject.operation, subject.becomes]);
        expect([subject.operation, machines.states.get(vmId) ?? null]).toEqual([subject.operation, subject.becomes]);
      }
    },
  );
});

const isSame = (left: ReadonlySet<string>, right: ReadonlySet<string>) =>
  left.size === right.size && [...left].every((id) => right.has(id));
