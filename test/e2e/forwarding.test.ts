import { existsSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { run } from "../system/command.ts";
import { until } from "../system/poll.ts";
import { sshSetting } from "../system/ssh-fixture.ts";

const setting = sshSetting();
const DEADLINE_MS = 20_000;

/** A port that nobody listens on now. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => (typeof address === "object" && address !== null ? resolve(address.port) : reject(new Error("no port"))));
    });
  });
}

/** What the other side of a connection says first. */
function firstBytes(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    socket.setTimeout(5_000, () => socket.destroy(new Error("the other side says nothing")));
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("closed before a byte")));
    socket.once("data", (data) => {
      resolve(data.toString("latin1"));
      socket.destroy();
    });
  });
}

test("-L reaches a port of the VM that speaks first, as often as asked, and no byte is lost", async () => {
  const { ssh, root } = setting();
  const port = await freePort();
  const tunnel = ssh.sshInBackground(root, null, ["-N", "-o", "ExitOnForwardFailure=yes", "-L", `127.0.0.1:${port}:127.0.0.1:22`]);
  try {
    await until("the tunnel is open", DEADLINE_MS, () => firstBytes(port));
    const greetings = await Promise.all(Array.from({ length: 8 }, () => firstBytes(port)));
    for (const greeting of greetings) expect(greeting).toMatch(/^SSH-2\.0-OpenSSH/);
  } finally {
    await tunnel.kill();
  }
});

test("-L to a port that nobody listens on fails that connection and leaves the session alone", async () => {
  const { ssh, root } = setting();
  const port = await freePort();
  const session = ssh.sshInBackground(root, "echo live; cat", ["-L", `127.0.0.1:${port}:127.0.0.1:9`]);
  try {
    await until("the session is live", DEADLINE_MS, () => (session.output === "live\n" ? true : undefined));
    await expect(firstBytes(port)).rejects.toThrow();
    session.process.stdin.end("still here\n");
    expect((await session.finished).stdout.toString()).toBe("live\nstill here\n");
  } finally {
    await session.kill();
  }
});

test("-R lets the VM reach a port of the client", async () => {
  const { ssh, root } = setting();
  const server = createServer((socket) => socket.end("hello from the client\n"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : expect.fail("no port");
  try {
    const command = "exec 3<>/dev/tcp/127.0.0.1/7007; cat <&3";
    const { stdout } = await ssh.ssh(root, command, { flags: ["-o", "ExitOnForwardFailure=yes", "-R", `7007:127.0.0.1:${port}`] });
    expect(stdout.toString()).toBe("hello from the client\n");
  } finally {
    server.close();
  }
});

test("unix sockets are forwarded both ways: the VM's socket leads to the client, the client's port to the VM's socket", async () => {
  const { ssh, root } = setting();
  const server = createServer((socket) => socket.end("through two sockets\n"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const home = typeof address === "object" && address !== null ? address.port : expect.fail("no port");
  const port = await freePort();
  const flags = ["-R", `/tmp/forwarded.sock:127.0.0.1:${home}`, "-L", `127.0.0.1:${port}:/tmp/forwarded.sock`];
  const tunnel = ssh.sshInBackground(root, null, ["-N", "-o", "ExitOnForwardFailure=yes", ...flags]);
  try {
    expect(await until("the tunnel is open", DEADLINE_MS, () => firstBytes(port))).toBe("through two sockets\n");
  } finally {
    await tunnel.kill();
    server.close();
  }
});

test("one ControlMaster carries thirty sessions at once, and ends when told", async () => {
  const { ssh, root } = setting();
  const path = join(ssh.folder, "master");
  const master = ssh.sshInBackground(root, null, ["-M", "-S", path, "-N"]);
  try {
    await until("the master listens", DEADLINE_MS, () => (existsSync(path) ? true : undefined));
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, index) => ssh.ssh(root, `echo ${index}; exit ${index}`, { flags: ["-S", path] })),
    );
    expect(answers.map(({ code, stdout }) => [code, stdout.toString()])).toEqual(answers.map((_, index) => [index, `${index}\n`]));
    await run("ssh", [...ssh.options, "-S", path, "-O", "exit", ssh.target(root)]);
    await master.finished;
    expect(existsSync(path)).toBe(false);
  } finally {
    await master.kill();
  }
});

test("an agent of the client answers in the VM, and only when forwarded", async () => {
  const { ssh, root } = setting();
  const key = join(ssh.folder, "agent-key");
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "agent test key", "-f", key]);
  const inner = [
    "ssh",
    ...ssh.options,
    "-o",
    "BatchMode=yes",
    "-o",
    "IdentityAgent=SSH_AUTH_SOCK",
    "-A",
    ssh.target(root),
    "ssh-add -L",
  ];
  const listed = await run("ssh-agent", ["sh", "-c", `ssh-add -q ${key} && exec "$@"`, "sh", ...inner]);
  expect(listed.stdout.toString(), listed.stderr).toContain("agent test key");
  expect((await ssh.ssh(root, "echo socket=$SSH_AUTH_SOCK")).stdout.toString()).toBe("socket=\n");
});
