import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { json, startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

describe("exec", () => {
  let host: TestHost;
  let vm: string;

  beforeAll(async () => {
    host = await startTestHost({ POSTERN_EXEC_OUTPUT_BYTES: "100000", POSTERN_HOST_JSON_BYTES: "2000000" });
    vm = await host.createVm({ users: [{ name: "developer" }] });
  }, 60_000);
  afterAll(() => host.close());

  const run = async (body: object, user = "root") => {
    const answer = await host.exec(vm, user, body);
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  };
  const isRunning = async (marker: string) => {
    const { body } = await run({ command: `pgrep -f '[${marker[0]}]${marker.slice(1)}' >/dev/null && echo yes` });
    return body.stdout === "yes\n";
  };

  test("answers standard output, standard error and the exit status", async () => {
    const { status, body } = await run({ command: "echo out; echo err >&2; exit 3" });
    expect([status, body]).toEqual([200, { stdout: "out\n", stderr: "err\n", statusCode: 3 }]);
  });

  test.each([0, 1, 126, 255])("passes exit status %i on as an answer, not as a failure", async (code) => {
    const { status, body } = await run({ command: `exit ${code}` });
    expect([status, body.statusCode]).toEqual([200, code]);
  });

  test("answers 128 and the signal's number for a command that a signal ended", async () => {
    const { body } = await run({ command: "kill -TERM $$" });
    expect(body.statusCode).toBe(143);
  });

  test("runs as the ticket's Linux user, in that user's home", async () => {
    const { body } = await run({ command: "id -un; pwd" }, "developer");
    expect(body.stdout).toBe("developer\n/home/developer\n");
  });

  test("gives the command its standard input and then its end", async () => {
    const stdin = Buffer.from([0, 1, 2, 255, 10]).toString("base64");
    const { body } = await run({ command: "od -An -tx1", stdin });
    expect(body.stdout).toBe(" 00 01 02 ff 0a\n");
  });

  test("gives end of file at once to a command without input", async () => {
    const { body } = await run({ command: "cat; echo end" });
    expect(body.stdout).toBe("end\n");
  });

  test("gives more input than a command reads without failing", async () => {
    const { status, body } = await run({ command: "exec 0<&-; echo done", stdin: Buffer.alloc(1_000_000).toString("base64") });
    expect([status, body.stdout]).toEqual([200, "done\n"]);
  });

  test("passes environment variables, whatever their values hold", async () => {
    const { body } = await run({ command: 'printf "%s|%s" "$A" "$B_2"', env: { A: "x y'\"$(id)\nz", B_2: "ü" } });
    expect(body.stdout).toBe("x y'\"$(id)\nz|ü");
  });

  test("runs the longest command that Linux does, and refuses a longer one or a longer variable by name", async () => {
    const longest = `: ${"x".repeat(131_069)}`;
    expect((await run({ command: longest })).body).toMatchObject({ statusCode: 0 });
    expect(await run({ command: `${longest}x` })).toMatchObject({ status: 400, body: { details: { path: "command" } } });
    const long = await run({ command: "true", env: { LONG: "ü".repeat(65_536) } });
    expect(long).toMatchObject({ status: 400, body: { details: { path: "env.LONG" } } });
  });

  test("replaces output bytes that are no UTF-8 and keeps the rest", async () => {
    const { body } = await run({ command: "printf 'a\\377b\\357\\273\\277c'" });
    expect(body.stdout).toBe("a\uFFFDb\uFEFFc");
  });

  test.each(["root", "developer"])("kills a command of %s that runs out of time and answers what it wrote", async (user) => {
    const { status, body } = await run({ command: "echo before; (sleep 4711 &); sleep 4711; echo after", timeoutMs: 300 }, user);
    expect([status, body.kind]).toEqual([408, "exec-timed-out"]);
    expect(body.details).toEqual({ timeoutMs: 300, stdout: "before\n", stderr: "" });
    await until(async () => !(await isRunning("sleep 4711")), "the command is gone");
  });

  test.each([
    ["loses its environment", "env -i sleep 4715; true", "developer"],
    ["is another Linux user's by then", "su - developer -c 'sleep 4715'; true", "root"],
  ])("kills a command that runs out of time though it %s", async (_how, command, user) => {
    expect((await run({ command, timeoutMs: 300 }, user)).body.kind).toBe("exec-timed-out");
    await until(async () => !(await isRunning("sleep 4715")), "the command is gone");
  });

  test("kills a command whose caller went away", async () => {
    const controller = new AbortController();
    const ticket = await host.edge.ticket(host.agent.id, { vm, user: "root", op: "exec" });
    const call = fetch(`${host.agent.url}/vms/${vm}/exec`, {
      ...json({ command: "sleep 4712" }),
      method: "POST",
      headers: { authorization: `Bearer ${ticket}` },
      signal: controller.signal,
    }).catch(() => null);
    await until(() => isRunning("sleep 4712"), "the command runs");
    controller.abort();
    await call;
    await until(async () => !(await isRunning("sleep 4712")), "the command is gone");
  });

  test("kills a command that writes too much", async () => {
    const { status, body } = await run({ command: "yes 4713" });
    expect([status, body.kind]).toEqual([413, "exec-output-too-large"]);
    await until(async () => !(await isRunning("yes 4713")), "the command is gone");
  });

  test("answers in full when the output just fits", async () => {
    const { status, body } = await run({ command: "head -c 100000 /dev/zero | tr '\\0' x" });
    expect([status, String(body.stdout).length]).toEqual([200, 100_000]);
  });

  test("does not wait for a background child that holds the output open", async () => {
    const { body } = await run({ command: "sleep 4714 & echo started" });
    expect(body).toEqual({ stdout: "started\n", stderr: "", statusCode: 0 });
    await run({ command: "pkill -f '[s]leep 4714'" });
  });

  test("runs many commands at once", async () => {
    const answers = await Promise.all(Array.from({ length: 60 }, (_, index) => run({ command: `echo ${index}` }, "developer")));
    const expected = Array.from({ length: 60 }, (_, index) => ({
      status: 200,
      body: { stdout: `${index}\n`, stderr: "", statusCode: 0 },
    }));
    expect(answers).toEqual(expected);
  });

  test("names a Linux user that does not exist, instead of a shell's complaint", async () => {
    const { status, body } = await run({ command: "true" }, "nobody-here");
    expect([status, body.kind, body.details]).toEqual([404, "linux-user-not-found", { linuxUser: "nobody-here" }]);
  });

  test("names a Linux user that has no login shell", async () => {
    const { status, body } = await run({ command: "true" }, "nobody");
    expect([status, body.kind]).toEqual([403, "linux-user-forbidden"]);
  });

  test("names a Linux user whose login shell is no program, instead of sshd's bare no", async () => {
    await run({ command: "useradd --create-home --shell /bin/no-such-shell shellless" });
    const { status, body } = await run({ command: "true" }, "shellless");
    await run({ command: "userdel --remove shellless" });
    expect([status, body.kind]).toEqual([403, "linux-user-forbidden"]);
    expect(body.message).toContain("/bin/no-such-shell");
  });

  test("finds a Linux user that was made a moment ago", async () => {
    await run({ command: "useradd --create-home --shell /bin/bash late" });
    expect((await run({ command: "id -un" }, "late")).body.stdout).toBe("late\n");
  });

  test.each([
    ["no JSON", "{", ""],
    ["no command", "{}", "command"],
    ["a command that is no text", '{"command":1}', "command"],
    ["a negative time", '{"command":"true","timeoutMs":-1}', "timeoutMs"],
    ["more time than allowed", '{"command":"true","timeoutMs":999999999}', "timeoutMs"],
    ["a variable that is no text", '{"command":"true","env":{"A":1}}', "env.A"],
    ["a variable's name with a space", '{"command":"true","env":{"A B":"1"}}', "env"],
    ["a variable with NUL", '{"command":"true","env":{"A":"\\u0000"}}', "env.A"],
    ["input that is no base64", '{"command":"true","stdin":"***"}', "stdin"],
    ["a command with NUL", '{"command":"a\\u0000b"}', "command"],
  ])("refuses %s and names the member", async (_what, body, path) => {
    const answer = await host.request("POST", `/vms/${vm}/exec`, { vm, user: "root", op: "exec" }, { body });
    const refusal = (await answer.json()) as { kind: string; details?: { path?: string } };
    expect([answer.status, refusal.kind, refusal.details?.path ?? ""]).toEqual([400, "bad-request", path]);
  });

  test("refuses a body beyond its limit", async () => {
    const answer = await host.exec(vm, "root", { command: "x".repeat(2_000_001) });
    expect(answer.status).toBe(413);
  });

  test("ends a command with a clear failure when the VM is suspended under it", async () => {
    const other = await host.createVm();
    const call = host.exec(other, "root", { command: "touch /run/started; sleep 4715" });
    const started = async () => {
      const seen = await host.exec(other, "root", { command: "test -e /run/started" });
      return ((await seen.json()) as { statusCode: number }).statusCode === 0;
    };
    await until(started, "the command runs");
    await host.request("POST", `/vms/${other}/suspend`, { vm: other, op: "suspend" });
    const answer = await call;
    expect([answer.status, ((await answer.json()) as { kind: string }).kind]).toEqual([409, "vm-not-running"]);
  });
});
