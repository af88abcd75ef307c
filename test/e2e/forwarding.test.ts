import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { run } from "../system/command.ts";
import { until } from "../system/poll.ts";
import { firstBytes, freePort } from "../system/ports.ts";
import { throughSocks } from "../system/socks.ts";
import { sshSetting } from "../system/ssh-fixture.ts";

const setting = sshSetting();
const DEADLINE_MS = 20_000;

/**
 * A connection setup of the X protocol (little-endian, version 11.0) with `$cookie`, sent to `$DISPLAY` by bash alone. Prints the first
 * byte of the answer; 1 means yes.
 */
const X_SETUP = String.raw`
  number=$(echo $DISPLAY | sed 's/^.*:\([0-9]*\).*/\1/')
  exec 3<>/dev/tcp/127.0.0.1/$((6000 + number))
  printf 'l\0\013\0\0\0\022\0\020\0\0\0MIT-MAGIC-COOKIE-1\0\0' >&3
  printf "$(echo $cookie | sed 's/../\\x&/g')" >&3
  head -c 1 <&3 | od -An -tu1`;

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

test("the first bytes of a port that speaks first arrive on the first channel of a connection, fifty fresh times", async () => {
  const { ssh, root } = setting();
  const direct = () =>
    run("ssh", [...ssh.options, "-o", "BatchMode=yes", "-W", "127.0.0.1:22", ssh.target(root)], { input: "x\n" });
  for (let round = 0; round < 5; round += 1) {
    const answers = await Promise.all(Array.from({ length: 10 }, direct));
    for (const { stdout, stderr } of answers) expect(stdout.toString("latin1"), stderr).toMatch(/^SSH-2\.0-OpenSSH/);
  }
});

test("-D reaches every port of the VM by name, and tells of one that nobody listens on", async () => {
  const { ssh, root } = setting();
  const port = await freePort();
  const tunnel = ssh.sshInBackground(root, null, ["-N", "-D", String(port)]);
  try {
    await until("the proxy is open", DEADLINE_MS, async () => {
      const socket = await throughSocks(port, "localhost", 22);
      const greeting = await new Promise<Buffer>((resolve) => socket.once("data", resolve));
      socket.destroy();
      expect(greeting.toString("latin1")).toMatch(/^SSH-2\.0-OpenSSH/);
      return true;
    });
    await expect(throughSocks(port, "localhost", 9)).rejects.toThrow();
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

test("-R 0 takes a port that the VM chooses, tells the client, and leads there", async () => {
  const { ssh, root, vm } = setting();
  const server = createServer((socket) => socket.end("hello from the client\n"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const home = typeof address === "object" && address !== null ? address.port : expect.fail("no port");
  const tunnel = ssh.sshInBackground(root, null, ["-N", "-R", `0:127.0.0.1:${home}`]);
  try {
    const chosen = await until("the port is told", DEADLINE_MS, () => /Allocated port (\d+)/.exec(tunnel.errors)?.[1]);
    const heard = await vm.exec(`bash -c 'exec 3<>/dev/tcp/127.0.0.1/${chosen}; cat <&3'`);
    expect(heard).toMatchObject({ stdout: "hello from the client\n" });
  } finally {
    await tunnel.kill();
    server.close();
  }
});

/** What a peer says until it ends its side; ours stays open. */
async function heardToEnd(socket: Socket): Promise<string> {
  let heard = "";
  socket.on("data", (chunk) => {
    heard += chunk.toString();
  });
  await once(socket, "end");
  return heard;
}

test("whichever end of a forwarded connection is the first to say its last, the other is heard to its end, by -L and -R alike", async () => {
  const { ssh, root } = setting();
  const accepted: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => accepted.push(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const home = typeof address === "object" && address !== null ? address.port : expect.fail("no port");
  const port = await freePort();
  // Into the VM and out of it again.
  const flags = ["-R", `7008:127.0.0.1:${home}`, "-L", `127.0.0.1:${port}:127.0.0.1:7008`];
  const tunnel = ssh.sshInBackground(root, "echo open; exec cat", ["-o", "ExitOnForwardFailure=yes", ...flags]);
  try {
    await until("the tunnel is open", DEADLINE_MS, () => (tunnel.output === "open\n" ? true : undefined));
    for (const clientFirst of [true, false]) {
      const client = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
      const far = await until("it is forwarded", DEADLINE_MS, () => accepted.pop());
      const [first, second] = clientFirst ? [client, far] : [far, client];
      first.end("my last\n");
      expect(await heardToEnd(second)).toBe("my last\n");
      second.end("and mine\n");
      expect(await heardToEnd(first)).toBe("and mine\n");
    }
  } finally {
    await tunnel.kill();
    server.close();
  }
});

test("X11 programs of the VM reach the client's display, and only with the cookie", async () => {
  const { ssh, root } = setting();
  const display = spawn("Xvfb", ["-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "64x64x8"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  try {
    const [number] = (await once(display.stdout, "data")) as [Buffer];
    const env = { PATH: process.env.PATH, HOME: ssh.folder, DISPLAY: `:${number.toString().trim()}` };
    const session = (script: string) =>
      run("ssh", [...ssh.options, "-o", "BatchMode=yes", "-Y", ssh.target(root), script], { env });
    const setUp = (cookie: string) => `cookie=${cookie}${X_SETUP}`;
    const right = await session(setUp("$(xauth list $DISPLAY | awk '{print $3; exit}')"));
    expect(right.stdout.toString().trim(), right.stderr).toBe("1");
    const wrong = await session(setUp("00000000000000000000000000000000"));
    expect(wrong.stdout.toString().trim()).toBe("");
  } finally {
    display.kill();
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

test("an agent of the client answers in the VM, twenty askers at once, and only when forwarded", async () => {
  const { ssh, root } = setting();
  const key = join(ssh.folder, "agent-key");
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "agent test key", "-f", key]);
  const options = [...ssh.options, "-o", "BatchMode=yes", "-o", "IdentityAgent=SSH_AUTH_SOCK", "-A"];
  const withAgent = (command: string) =>
    run("ssh-agent", ["sh", "-c", `ssh-add -q ${key} && exec "$@"`, "sh", "ssh", ...options, ssh.target(root), command]);
  const listed = await withAgent("ssh-add -L");
  expect(listed.stdout.toString(), listed.stderr).toContain("agent test key");
  // Each has a channel of its own, and each a signature made by the client's agent.
  const signed = await withAgent(
    "ssh-add -L >/tmp/key.pub; for n in $(seq 20); do { ssh-add -T /tmp/key.pub && echo signed; } & done; wait",
  );
  expect(signed.stdout.toString(), signed.stderr).toBe("signed\n".repeat(20));
  expect((await ssh.ssh(root, "echo socket=$SSH_AUTH_SOCK")).stdout.toString()).toBe("socket=\n");
});
