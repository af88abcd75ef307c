import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { failure } from "../../protocol/failures.ts";
import { VmTerminals } from "./support/terminals-fixture.ts";
import { json, startTestHost, type TestHost } from "./support/test-host.ts";

let host: TestHost;
beforeAll(async () => {
  host = await startTestHost();
}, 60_000);
afterAll(() => host.close());

const IMAGE_USER = { user: "*" };

/** A VM where nobody has the uid 1000 but who is made here; the machine that stands in for guests may have somebody. */
async function newVm(...users: readonly string[]): Promise<string> {
  const vm = await host.createVm();
  const clear = "getent passwd 1000 | cut -d: -f1 | xargs --no-run-if-empty userdel --force";
  const command = [clear, ...users.map((options) => `useradd --create-home --shell /bin/bash ${options}`)].join(" && ");
  const { statusCode, stderr } = (await (await host.exec(vm, "root", { command })).json()) as Record<string, unknown>;
  if (statusCode !== 0) throw new Error(String(stderr));
  return vm;
}

async function whoRuns(vm: string): Promise<[string, string | null]> {
  const answer = await host.exec(vm, "*", { command: "id -un" });
  const { stdout } = (await answer.json()) as { stdout: string };
  return [stdout, answer.headers.get("postern-acted-as")];
}

describe("without a named user a command runs as", () => {
  test("the account with the uid 1000, whatever its name, and the host says so", async () => {
    const vm = await newVm("--uid 1900 svc", "--uid 1000 ubuntu");
    expect(await whoRuns(vm)).toEqual(["ubuntu\n", "ubuntu"]);
  });

  test("root where there is no such account, and as the account once there is", async () => {
    const vm = await newVm("--uid 1900 svc");
    expect(await whoRuns(vm)).toEqual(["root\n", "root"]);
    await host.exec(vm, "root", { command: "useradd --create-home --uid 1000 late" });
    expect(await whoRuns(vm)).toEqual(["late\n", "late"]);
  });

  test("nobody where that account may not log in, rather than root", async () => {
    const vm = await newVm("--uid 1000 --shell /usr/sbin/nologin svc");
    const answer = await host.exec(vm, "*", { command: "id -un" });
    expect([answer.status, await answer.json()]).toMatchObject([403, { kind: "linux-user-forbidden" }]);
  });

  test("nobody where the ticket is for files or SSH: a verifier refuses it", async () => {
    const vm = await host.createVm();
    for (const op of ["files", "services", "ssh"] as const) {
      const answer = await host.request("GET", `/vms/${vm}/files/status?path=/`, { vm, op, ...IMAGE_USER });
      expect([op, answer.status]).toEqual([op, 401]);
    }
  });
});

test("a job without a named user is its caller's own, as the same and not as another", async () => {
  const vm = await newVm("--uid 1000 ubuntu");
  const job = `/vms/${vm}/jobs/ri-${"j".repeat(20)}`;
  const claims = { vm, op: "exec" } as const;
  const body = { command: "sleep 0.5; id -un", timeoutMs: null, env: {} };
  const begun = await host.request("PUT", `${job}?waitMs=1`, { ...claims, ...IMAGE_USER }, json(body));
  expect(begun.headers.get("postern-job-state")).toBe("running");
  expect((await host.request("GET", job, { ...claims, user: "root" })).status).toBe(404);
  const ended = await host.request("PUT", `${job}?waitMs=20000`, { ...claims, ...IMAGE_USER }, json(body));
  expect(await ended.json()).toMatchObject({ stdout: "ubuntu\n" });
});

test("a terminal without a named user is the account's own, and its socket is rechecked as that account", async () => {
  const terminals = await VmTerminals.ofNewVm(host);
  const command = "getent passwd 1000 | cut -d: -f1 | xargs --no-run-if-empty userdel --force; usermod --uid 1000 alice";
  await host.exec(terminals.vm, "root", { command });
  const visitor = { sub: "identity:cccccccccccccccc", epoch: 5, ...IMAGE_USER } as const;
  const opened = await terminals.open({ dialect: "v5", slug: "main" }, visitor);
  opened.type("id -un; echo do''ne\r");
  await opened.shows(/alice\r\n[\s\S]*done/);
  expect(await terminals.list("alice")).toMatchObject([{ linuxUser: "alice", slug: "main" }]);
  const ofRoot = await terminals.open({ dialect: "v5", slug: "main" }, { user: "root" });
  expect(await terminals.list("*")).toHaveLength(2);
  const again = await terminals.attach("main", { dialect: "v5" }, IMAGE_USER);
  again.type("id -un; echo ag''ain\r");
  await again.shows(/alice\r\n[\s\S]*again/);
  host.edge.onSessionCheck = () => failure("credential-invalid", "revoked");
  host.edge.send({ type: "floor", floor: { sub: visitor.sub, epoch: 9, at: Date.now() } });
  expect(await opened.isClosed()).toMatchObject({ code: 1008 });
  expect(new Set(host.edge.checked.map(({ linuxUser }) => linuxUser))).toEqual(new Set(["alice"]));
  for (const client of [again, ofRoot]) await client.drop();
});
