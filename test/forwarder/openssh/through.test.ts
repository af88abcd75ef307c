import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../system/ports.ts";
import { run, start, until } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world.close());

const login = () => `${world.vmId}:${world.token}`;
const scpLogin = () => `${world.vmId},${world.token}@127.0.0.1`;

test.each([0, 1, 42, 255])("exit code %i of a command is the client's exit code", async (code) => {
  const result = await world.exec(`exit ${code}`);
  expect(result.code).toBe(code);
});

test.each([40_000, 110_000])("a command of %i bytes is run", async (length) => {
  const result = await world.exec(`echo ${"x".repeat(length)} | wc -c`);
  expect(result.stdout.toString(), result.stderr).toBe(`${length + 1}\n`);
});

test("a command killed by a signal is reported as such", async () => {
  const result = await run("ssh", ["-v", ...world.ssh(login(), "kill -TERM $$")]);
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("exit-signal");
});

test("standard output and standard error stay apart", async () => {
  const result = await world.exec("echo out; echo err >&2");
  expect(result.stdout.toString()).toBe("out\n");
  expect(result.stderr).toContain("err\n");
  expect(result.stderr).not.toContain("out");
});

test("a client whose input ends at once still gets the command's output and exit code", async () => {
  const result = await world.exec("cat; sleep 0.2; echo done; exit 3", { input: "" });
  expect(result.stdout.toString()).toBe("done\n");
  expect(result.code).toBe(3);
});

test("input that ends is seen to end while output goes on (half-close)", async () => {
  const result = await world.exec("sort; echo after", { input: "b\na\n" });
  expect(result.stdout.toString()).toBe("a\nb\nafter\n");
});

test("bytes that are no text pass unchanged in commands and in both directions of data", async () => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, index) => index));
  const echoed = await world.exec("cat", { input: bytes });
  expect(echoed.stdout.equals(bytes)).toBe(true);
  const command = await run("sh", ["-c", `exec ssh "$@" "$(printf 'printf %%s \\377\\200')"`, "sh", ...world.ssh(login())]);
  expect(command.stdout.equals(Buffer.of(0xff, 0x80))).toBe(true);
});

test("a terminal has the size and modes of the client's", async () => {
  const script = [
    "set timeout 20",
    `spawn -noecho sh -c {stty rows 31 cols 97 erase ^H; exec ssh ${world.ssh(login(), "-tt", "stty -a").join(" ")}}`,
    "expect eof",
  ];
  const result = await run("expect", ["-c", script.join("\n")]);
  expect(result.stdout.toString()).toContain("rows 31; columns 97;");
  expect(result.stdout.toString()).toContain("erase = ^H");
});

test("a local forward reaches a server that speaks first, from its first byte on", async () => {
  const greeter = createServer((socket) => socket.end("220 first bytes\n"));
  const target = await listen(greeter);
  const local = await freePort();
  const ssh = start("ssh", ["-N", "-L", `127.0.0.1:${local}:127.0.0.1:${target}`, ...world.ssh(login())], { input: "open" });
  let heard = "";
  await until("the forward answers", async () => {
    heard = (await run("bash", ["-c", `cat < /dev/tcp/127.0.0.1/${local}`])).stdout.toString();
    return heard !== "";
  });
  expect(heard).toBe("220 first bytes\n");
  ssh.child.kill();
  await ssh.done;
  greeter.close();
});

test("a remote forward on a port that the VM chooses is reported and works", async () => {
  const greeter = createServer((socket) => socket.end("from the client's side\n"));
  const served = await listen(greeter);
  const ssh = start("ssh", ["-N", "-R", `0:127.0.0.1:${served}`, ...world.ssh(login())], { input: "open" });
  await until("the port is reported", () => /Allocated port \d+/.test(ssh.stderr()));
  const port = /Allocated port (\d+)/.exec(ssh.stderr())?.[1];
  const heard = await run("bash", ["-c", `cat < /dev/tcp/127.0.0.1/${port}`]);
  expect(heard.stdout.toString()).toBe("from the client's side\n");
  ssh.child.kill();
  await ssh.done;
  greeter.close();
});

test("a forward to a Unix socket works", async () => {
  const path = join(world.folder, "served.sock");
  const greeter = createServer((socket) => socket.end("unix\n"));
  await new Promise<void>((resolve) => greeter.listen(path, resolve));
  const local = await freePort();
  const ssh = start("ssh", ["-N", "-L", `127.0.0.1:${local}:${path}`, ...world.ssh(login())], { input: "open" });
  let heard = "";
  await until("the forward answers", async () => {
    heard = (await run("bash", ["-c", `cat < /dev/tcp/127.0.0.1/${local}`])).stdout.toString();
    return heard !== "";
  });
  expect(heard).toBe("unix\n");
  ssh.child.kill();
  await ssh.done;
  greeter.close();
});

test("the client's agent can be used in the VM", async () => {
  const key = join(world.folder, "agent-key");
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "agent-test", "-f", key]);
  const command = ["-c", 'ssh-add -q "$1" && shift && exec ssh "$@"', "sh", key, "-A", ...world.ssh(login(), "ssh-add -L")];
  const result = await run("ssh-agent", ["sh", ...command]);
  expect(result.stdout.toString()).toContain("agent-test");
});

test("thirty sessions share one connection and end each with its own code", async () => {
  const control = ["-o", `ControlPath=${join(world.folder, "mux")}`];
  const master = start("ssh", ["-M", "-N", ...control, ...world.ssh(login())], { input: "open" });
  await until("the master is up", async () => (await run("ssh", [...control, "-O", "check", ...world.ssh(login())])).code === 0);
  const results = await Promise.all(
    Array.from({ length: 30 }, (_, index) => run("ssh", [...control, ...world.ssh(login(), `echo ${index}; exit ${index}`)])),
  );
  expect(results.map((result) => result.code)).toEqual(results.map((_, index) => index));
  expect(results.map((result) => result.stdout.toString())).toEqual(results.map((_, index) => `${index}\n`));
  master.child.kill();
  await master.done;
});

test.each([
  ["the SFTP protocol", []],
  ["the old protocol", ["-O"]],
])("scp by %s carries a file both ways unchanged", async (_name, flags) => {
  const { source, back, remote } = files("scp", 5_000_000);
  const port = ["-P", String(world.port)];
  const up = await run("scp", [...flags, ...world.options(), ...port, source, `${scpLogin()}:${remote}`]);
  expect(up.code, up.stderr).toBe(0);
  const down = await run("scp", [...flags, ...world.options(), ...port, `${scpLogin()}:${remote}`, back]);
  expect(down.code, down.stderr).toBe(0);
  expect(hash(back)).toBe(hash(source));
});

test("scp of a file that is not there fails with scp's own code", async () => {
  const missing = `${scpLogin()}:/no/such/file`;
  const result = await run("scp", [...world.options(), "-P", String(world.port), missing, join(world.folder, "never")]);
  expect(result.code).toBe(1);
});

test("sftp carries a file both ways unchanged", async () => {
  const { source, back, remote } = files("sftp", 5_000_000);
  const result = await run("sftp", [...world.options(), "-P", String(world.port), "-b", "-", scpLogin()], {
    input: `put ${source} ${remote}\nget ${remote} ${back}\n`,
  });
  expect(result.code, result.stderr).toBe(0);
  expect(hash(back)).toBe(hash(source));
});

test("new keys in the middle of a transfer, on either side, lose no byte", async () => {
  const bytes = randomBytes(12_000_000);
  const rekeying = ["-o", "RekeyLimit=1M", ...world.ssh(login(), "cat")];
  const result = await run("ssh", ["-v", ...rekeying], { input: bytes });
  expect(result.stderr.match(/rekey/gi)?.length ?? 0).toBeGreaterThan(3);
  expect(result.stdout.equals(bytes)).toBe(true);
});

test("the VM's other host keys are never told to the client", async () => {
  const direct = await run("ssh", ["-v", ...world.ssh(login(), "true")]);
  expect(direct.code).toBe(0);
  expect(direct.stderr.split("rtype hostkeys-00@openssh.com")).toHaveLength(2);
});

test("a client that is killed leaves no tunnel behind", async () => {
  const ssh = start("ssh", world.ssh(login(), "echo up; sleep 600"), { input: "open" });
  await until("the command runs", () => ssh.stdout().includes("up"));
  expect(world.host.openTunnels).toBe(1);
  ssh.child.kill("SIGKILL");
  await until("the tunnel is closed", () => world.host.openTunnels === 0);
});

test("a VM that goes away ends the client with a reason", async () => {
  const ssh = start("ssh", world.ssh(login(), "echo up; sleep 600"), { input: "open" });
  await until("the command runs", () => ssh.stdout().includes("up"));
  world.host.breakTunnels();
  const result = await ssh.done;
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("The connection to the VM was lost.");
});

function files(name: string, size: number): { source: string; back: string; remote: string } {
  const source = join(world.folder, `${name}-source`);
  writeFileSync(source, randomBytes(size));
  return { source, back: join(world.folder, `${name}-back`), remote: join(world.folder, `${name}-remote`) };
}

function hash(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
