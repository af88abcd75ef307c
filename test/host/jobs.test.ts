import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type JobOwner, Jobs } from "../../host/jobs.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { JOB_STATE_HEADER } from "../../protocol/headers.ts";
import type { ExecAnswer } from "../../protocol/host-api.ts";
import { newBackgroundId, newVmId } from "../../protocol/ids.ts";
import { createLog } from "../../service/log.ts";
import { json, startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

const freshId = () => newBackgroundId(platformRandomBytes);
const ANSWER: ExecAnswer = { stdout: "out", stderr: "", statusCode: 0 };

describe("jobs", () => {
  const owner: JobOwner = { vmId: newVmId(platformRandomBytes), linuxUser: "root", subject: "identity:a" };
  const strangers: readonly (readonly [string, JobOwner])[] = [
    ["another subject", { ...owner, subject: "identity:b" }],
    ["another Linux user", { ...owner, linuxUser: "developer" }],
    ["another VM", { ...owner, vmId: newVmId(platformRandomBytes) }],
  ];
  let dir: string;
  let now: number;
  let jobs: Jobs;

  const open = (limits: Partial<ConstructorParameters<typeof Jobs>[1]> = {}) =>
    new Jobs(
      dir,
      { keepMs: 1_000, perVm: 2, resultBytes: 1_000_000, ...limits },
      () => now,
      createLog(() => undefined),
    );
  /** A job that ends when the test says so. */
  const held = () => {
    const { promise, resolve } = Promise.withResolvers<Result<ExecAnswer>>();
    return { work: vi.fn(() => promise), end: resolve };
  };
  /** A job that somebody was told to come back for and that ended. */
  const kept = async (result: Result<ExecAnswer> = success(ANSWER)) => {
    const id = freshId();
    const { work, end } = held();
    expect(await jobs.run(id, owner, 0, work)).toEqual(success({ kind: "running" }));
    end(result);
    await until(async () => {
      const state = await jobs.look(id, owner);
      return state.ok && state.value.kind === "ended";
    }, "the job ended");
    return id;
  };
  const notFound = expect.objectContaining({ failure: expect.objectContaining({ kind: "background-request-not-found" }) });

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "postern-jobs-"));
    now = 1_000_000;
    jobs = open();
  });
  afterEach(async () => {
    await jobs.close();
    rmSync(dir, { recursive: true });
  });

  test("answer a job that ends in time, and keep nothing of it", async () => {
    const id = freshId();
    expect(await jobs.run(id, owner, 5_000, async () => success(ANSWER))).toEqual(
      success({ kind: "ended", result: success(ANSWER) }),
    );
    expect(await jobs.look(id, owner)).toEqual(notFound);
    expect(readdirSync(join(dir, "jobs"))).toEqual([]);
  });

  test("answer a failure of the command as the job's result", async () => {
    const timedOut = failure("exec-timed-out", "too long", { timeoutMs: 1 });
    const id = await kept(timedOut);
    expect(await jobs.look(id, owner)).toEqual(success({ kind: "ended", result: timedOut }));
  });

  test("begin a job once, however often it is asked for", async () => {
    const id = freshId();
    const { work, end } = held();
    await Promise.all([jobs.run(id, owner, 0, work), jobs.run(id, owner, 0, work)]);
    end(success(ANSWER));
    await until(async () => (await jobs.look(id, owner)).ok, "the job is kept");
    expect(await jobs.run(id, owner, 5_000, work)).toEqual(success({ kind: "ended", result: success(ANSWER) }));
    expect(work).toHaveBeenCalledTimes(1);
  });

  test.each(strangers)("are not there for %s, running or ended", async (_who, stranger) => {
    const running = freshId();
    const { work, end } = held();
    await jobs.run(running, owner, 0, work);
    expect(await jobs.look(running, stranger)).toEqual(notFound);
    expect(await jobs.run(running, stranger, 0, work)).toEqual(notFound);
    end(success(ANSWER));
    const ended = await kept();
    expect(await jobs.look(ended, stranger)).toEqual(notFound);
    expect(await jobs.run(ended, stranger, 0, work)).toEqual(notFound);
    expect(work).toHaveBeenCalledTimes(1);
  });

  test.each(["", "ri-", "ri-../../../etc/passwd0", `ri-${"A".repeat(20)}`, "a".repeat(23)])("refuse the id %j", async (id) => {
    const work = vi.fn(async () => success(ANSWER));
    expect(await jobs.run(id, owner, 0, work)).toMatchObject({ failure: { kind: "bad-request" } });
    expect(await jobs.look(id, owner)).toEqual(notFound);
    expect(work).not.toHaveBeenCalled();
  });

  test("refuse more jobs in one VM than may run there, and none in another", async () => {
    const { work, end } = held();
    await jobs.run(freshId(), owner, 0, work);
    await jobs.run(freshId(), owner, 0, work);
    expect(await jobs.run(freshId(), owner, 0, work)).toMatchObject({ failure: { kind: "vm-busy" } });
    const elsewhere = { ...owner, vmId: newVmId(platformRandomBytes) };
    expect(await jobs.run(freshId(), elsewhere, 0, work)).toEqual(success({ kind: "running" }));
    end(success(ANSWER));
  });

  test("keep a result for its time and no longer", async () => {
    const id = await kept();
    now += 999;
    expect((await jobs.look(id, owner)).ok).toBe(true);
    now += 1;
    expect(await jobs.look(id, owner)).toEqual(notFound);
    expect(readdirSync(join(dir, "jobs"))).toEqual([]);
  });

  test("drop the oldest results when they grow too large together", async () => {
    await jobs.close();
    jobs = open({ resultBytes: 1_000 });
    const big = success({ ...ANSWER, stdout: "x".repeat(600) });
    const first = await kept(big);
    now += 1;
    const second = await kept(big);
    expect(await jobs.look(first, owner)).toEqual(notFound);
    expect((await jobs.look(second, owner)).ok).toBe(true);
  });

  test("keep results across a restart, readable by their owner only", async () => {
    const id = await kept();
    await jobs.close();
    for (const name of readdirSync(join(dir, "jobs"))) expect(statSync(join(dir, "jobs", name)).mode & 0o077).toBe(0);
    jobs = open();
    expect(await jobs.look(id, owner)).toEqual(success({ kind: "ended", result: success(ANSWER) }));
  });

  test("say after a restart that a job was cut short, rather than that it never was", async () => {
    const id = freshId();
    const { work, end } = held();
    await jobs.run(id, owner, 0, work);
    const folder = join(dir, "jobs");
    const record = readFileSync(join(folder, `${id}.json`), "utf8");
    end(success(ANSWER));
    await jobs.close();
    rmSync(join(folder, `${id}.result`));
    writeFileSync(join(folder, `${id}.json`), record);
    jobs = open();
    await until(async () => (await jobs.look(id, owner)).ok, "the job is kept");
    expect(await jobs.look(id, owner)).toMatchObject({ value: { result: { failure: { kind: "host-unavailable" } } } });
  });

  test("drop a damaged record instead of failing to start", async () => {
    await jobs.close();
    const id = freshId();
    writeFileSync(join(dir, "jobs", `${id}.json`), "{");
    jobs = open();
    expect(await jobs.look(id, owner)).toEqual(notFound);
  });
});

describe("the host's routes of jobs", () => {
  let host: TestHost;
  let vm: string;

  beforeAll(async () => {
    host = await startTestHost();
    vm = await host.createVm({ users: [{ name: "developer" }] });
  }, 60_000);
  afterAll(() => host.close());

  const begin = (id: string, body: object, waitMs: number, user = "root") =>
    host.request("PUT", `/vms/${vm}/jobs/${id}?waitMs=${waitMs}`, { vm, user, op: "exec" }, json(body));
  const look = (id: string, user = "root") => host.request("GET", `/vms/${vm}/jobs/${id}`, { vm, user, op: "exec" });

  test("answer a command that ends in time at once, and a failing one with its failure", async () => {
    const done = await begin(freshId(), { command: "echo hi" }, 10_000);
    expect([done.status, done.headers.get(JOB_STATE_HEADER)]).toEqual([200, "done"]);
    expect(await done.json()).toEqual({ stdout: "hi\n", stderr: "", statusCode: 0 });
    const failed = await begin(freshId(), { command: "echo hi; sleep 60", timeoutMs: 300 }, 10_000);
    expect([failed.status, failed.headers.get(JOB_STATE_HEADER)]).toEqual([200, "failed"]);
    expect(await failed.json()).toMatchObject({ kind: "exec-timed-out", details: { stdout: "hi\n" } });
  });

  test("let a command go on when its caller has gone, and give its result to the next look", async () => {
    const id = freshId();
    const gone = new AbortController();
    const marker = `/tmp/job-${id}`;
    const asked = host.request(
      "PUT",
      `/vms/${vm}/jobs/${id}?waitMs=0`,
      { vm, user: "root", op: "exec" },
      { ...json({ command: `while [ ! -e ${marker} ]; do sleep 0.05; done; echo late` }), signal: gone.signal },
    );
    expect((await asked).headers.get(JOB_STATE_HEADER)).toBe("running");
    gone.abort();
    expect((await look(id)).headers.get(JOB_STATE_HEADER)).toBe("running");
    await host.exec(vm, "root", { command: `touch ${marker}` });
    await until(async () => (await look(id)).headers.get(JOB_STATE_HEADER) === "done", "the job is done");
    expect(await (await look(id)).json()).toMatchObject({ stdout: "late\n", statusCode: 0 });
    expect((await look(id, "developer")).status).toBe(404);
  });

  test("refuse tickets for anything but exec in this VM", async () => {
    const id = freshId();
    const other = await host.request("GET", `/vms/${vm}/jobs/${id}`, { vm, user: "root", op: "files" });
    expect(other.status).toBe(401);
    const none = await fetch(`${host.agent.url}/vms/${vm}/jobs/${id}`);
    expect(none.status).toBe(401);
    expect((await begin(id, { command: "true" }, -1)).status).toBe(400);
    expect((await begin("ri-x", { command: "true" }, 0)).status).toBe(400);
    expect((await look(id)).status).toBe(404);
  });
});
