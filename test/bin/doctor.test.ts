import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { type Check, examine, good, problem, warning } from "../../bin/doctor/check.ts";
import { runDoctor } from "../../bin/doctor/doctor.ts";
import { lookAtClock, lookAtEdge } from "../../bin/doctor/edge.ts";
import { lookAtDisk, lookAtKeyFile, lookAtKvm } from "../../bin/doctor/host.ts";
import { judgeCgroups, judgeClock, judgeDisk, judgeForwarding, judgeUser, judgeUserNamespaces } from "../../bin/doctor/kernel.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { openCredential } from "../../service/credential.ts";
import { createLog } from "../../service/log.ts";
import { SettingsError } from "../../service/settings.ts";

const GIB = 1024 ** 3;

/** An edge that answers the same JSON to every path. */
async function edgeThatSays(body: unknown, status = 200): Promise<string> {
  const server = createServer((_, response) => response.writeHead(status).end(JSON.stringify(body)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => new Promise((resolve) => server.close(() => resolve())));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe("the doctor", () => {
  const check = (name: string, finding: Awaited<ReturnType<Check["look"]>>): Check => ({ name, look: async () => finding });

  it("prints a line for each thing in its order, advice below what is not good, and counts problems only", async () => {
    const lines: string[] = [];
    const checks = [
      check("first", good("fine")),
      check("second", warning("old", "renew")),
      check("third", problem("gone", "make")),
    ];
    expect(await examine(checks, (line) => lines.push(line))).toBe(1);
    expect(lines.map((line) => line.replace(/\s+/g, " ").trim())).toEqual([
      "ok first fine",
      "warn second old",
      "-> renew",
      "FAIL third gone",
      "-> make",
    ]);
  });

  it("ends with 1 where a thing is a problem, for a host of machines that are there already", async () => {
    const lines: string[] = [];
    const edge = await edgeThatSays({ ok: true, at: Date.now(), keys: [] });
    const env = { POSTERN_DRIVER: "static", POSTERN_EDGE_URL: edge, POSTERN_SERVICE_KEY_FILE: "/nowhere/key" };
    expect(await runDoctor(env, (line) => lines.push(line))).toBe(1);
    expect(lines.at(-1)).toContain("1 of these must be put right");
    expect(lines.join("\n")).not.toContain("cgroups");
  });

  it("ends with 0 where nothing is a problem", async () => {
    const edge = await edgeThatSays({ ok: true, at: Date.now(), keys: [] });
    expect(await runDoctor({ POSTERN_DRIVER: "static", POSTERN_EDGE_URL: edge }, () => undefined)).toBe(0);
  });

  it("refuses a setting that no host agent would take, by name", async () => {
    const refusal = runDoctor({ POSTERN_EDGE_URL: "ftp://edge" }, () => undefined);
    await expect(refusal).rejects.toBeInstanceOf(SettingsError);
    await expect(refusal).rejects.toThrow("POSTERN_EDGE_URL");
  });
});

describe("a host is told that it cannot be one", () => {
  it("without root", () => expect(judgeUser(1000)).toMatchObject({ verdict: "problem" }));

  it.each([
    ["cpuset cpu io memory", null, "pids"],
    ["", null, "cpu, memory, pids"],
    [null, "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t4\t1\t0\npids\t8\t1\t1\n", "memory"],
    [null, null, "cpu, memory, pids"],
  ])("without a controller of cgroups: %j, %j", (v2, v1, missing) => {
    expect(judgeCgroups(v2, v1)).toMatchObject({ verdict: "problem", found: expect.stringContaining(`without ${missing}`) });
  });

  it.each([
    ["0", "6.1.0-18-amd64", "auto", "warning"],
    ["96365", "5.18.9", "auto", "warning"],
    ["96365", "5.10.0-28-amd64", "on", "problem"],
    [null, "6.1.0", "on", "problem"],
    ["96365", "6.12.1", "off", "warning"],
    ["96365", "5.19.0", "auto", "good"],
    ["96365", "6.1.0-18-amd64", "on", "good"],
  ] as const)("without users of containers' own: %s of them, Linux %s, %s", (most, kernel, wish, verdict) => {
    expect(judgeUserNamespaces(most, kernel, wish)).toMatchObject({ verdict });
  });

  it("with a disk that is full, of bytes or of files", () => {
    const room = { freeBytes: 100 * GIB, freeFiles: 1_000_000, files: 2_000_000 };
    expect(judgeDisk("/d", { ...room, freeBytes: GIB }, 2 * GIB)).toMatchObject({ verdict: "problem" });
    expect(judgeDisk("/d", { ...room, freeBytes: 9 * GIB }, 2 * GIB)).toMatchObject({ verdict: "warning" });
    expect(judgeDisk("/d", { ...room, freeFiles: 10 }, 2 * GIB)).toMatchObject({ verdict: "problem" });
    expect(judgeDisk("/d", room, 2 * GIB)).toMatchObject({ verdict: "good" });
    // btrfs makes them as they go, and says 0.
    expect(judgeDisk("/d", { ...room, freeFiles: 0, files: 0 }, 2 * GIB)).toMatchObject({ verdict: "good" });
  });

  it.each([-6_000, 6_000])("with a clock %i ms off the edge's", (skewMs) => {
    expect(judgeClock(skewMs, 5_000)).toMatchObject({ verdict: "problem", advice: expect.stringContaining("timesyncd") });
    expect(judgeClock(skewMs, 7_000)).toMatchObject({ verdict: "good" });
  });

  it("where packets are not passed on and cannot be", () => {
    expect(judgeForwarding(null)).toMatchObject({ verdict: "problem" });
    expect(judgeForwarding("0\n")).toMatchObject({ verdict: "warning" });
  });

  it.each([
    [{ keys: [] }, 503],
    [{ hello: "world" }, 200],
  ])("where something else answers for the edge: %j, %i", async (body, status) => {
    expect(await lookAtEdge(await edgeThatSays(body, status), 5_000)).toMatchObject({ verdict: "problem" });
  });

  it("where nothing answers for the edge, with the reason", async () => {
    const gone = await lookAtEdge("http://127.0.0.1:1", 5_000);
    expect(gone).toMatchObject({ verdict: "problem", found: expect.stringMatching(/ECONNREFUSED|bad port/) });
  });

  it("with the edge's clock ahead of its own", async () => {
    const edge = await edgeThatSays({ ok: true, at: Date.now() + 60_000 });
    const limits = { timeoutMs: 5_000, skewMs: 5_000 };
    expect(await lookAtClock(edge, limits)).toMatchObject({
      verdict: "problem",
      found: expect.stringContaining("behind the edge"),
    });
    expect(await lookAtClock("http://127.0.0.1:1", limits)).toMatchObject({ verdict: "warning" });
  });

  it("where its service key is missing or may be read by others", async () => {
    const scratch = await mkdtemp(join(tmpdir(), "postern-doctor-"));
    onTestFinished(() => rm(scratch, { recursive: true }));
    const path = join(scratch, "key");
    expect(await lookAtKeyFile(path, scratch)).toMatchObject({ verdict: "problem" });
    await writeFile(path, "secret");
    await chmod(path, 0o640);
    const open = await lookAtKeyFile(path, scratch);
    expect(open).toMatchObject({ verdict: "problem", advice: `chmod 600 ${path}` });
    expect(JSON.stringify(open)).not.toContain("secret");
    await chmod(path, 0o600);
    expect(await lookAtKeyFile(path, scratch)).toMatchObject({ verdict: "good" });
  });

  it("wants no service key of a host that is enrolled, and says so when what it keeps of that is damaged", async () => {
    const scratch = await mkdtemp(join(tmpdir(), "postern-doctor-"));
    onTestFinished(() => rm(scratch, { recursive: true }));
    const secret = join(scratch, "key");
    await writeFile(secret, "secret", { mode: 0o600 });
    const edgeUrl = await edgeThatSays({
      serviceId: `${"a".repeat(16)}-${"b".repeat(16)}`,
      issuer: "https://edge.example",
      region: "local",
    });
    await openCredential({
      stateDir: scratch,
      edgeUrl,
      secretFile: secret,
      applicant: { kind: "forwarder" },
      clock: Date.now,
      randomBytes: platformRandomBytes,
      log: createLog(() => undefined),
      timeoutMs: 5_000,
      retryMs: 10,
    });
    await rm(secret);
    for (const path of [secret, undefined]) {
      expect(await lookAtKeyFile(path, scratch)).toMatchObject({ verdict: "good", found: expect.stringContaining("enrolled as") });
    }
    await writeFile(join(scratch, "service-key.json"), "{");
    expect(await lookAtKeyFile(secret, scratch)).toMatchObject({ verdict: "problem" });
  });

  it("looks at the disk of a folder that is not made yet", async () => {
    expect(await lookAtDisk(join(tmpdir(), "not", "made", "yet"), 1)).toMatchObject({ verdict: "good" });
  });

  it("asks for no KVM where no virtual machines are made", async () => {
    const asked = await lookAtKvm({ driver: "container", cacheDir: "/nowhere", diskGib: 8, probeMs: 1 });
    expect(asked).toMatchObject({ verdict: "good" });
  });
});
