import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type ssh2 from "ssh2";
import { describe, expect, test } from "vitest";
import { run } from "../system/command.ts";
import { system } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { sshSetting } from "../system/ssh-fixture.ts";
import { ssh2Client } from "../system/ssh2-client.ts";

const setting = sshSetting();

describe("a command over SSH", () => {
  test.each([0, 1, 42, 254, 255])("ends with its own exit code: %i", async (code) => {
    const { ssh, root } = setting();
    expect(await ssh.ssh(root, `echo out; echo err >&2; exit ${code}`)).toEqual({
      code,
      stdout: Buffer.from("out\n"),
      stderr: "err\n",
    });
  });

  test("killed by a signal ends ssh with 255, and ssh is told that it was one", async () => {
    const { ssh, root } = setting();
    const { code, stderr } = await ssh.ssh(root, "kill -KILL $$", { flags: ["-v"] });
    expect(code).toBe(255);
    expect(stderr).toContain("rtype exit-signal");
  });

  test.each([
    ["it handles", "trap 'echo caught; exit 7' USR1; echo ready; while :; do sleep 0.1; done", "USR1", "ready\ncaught\n", [7]],
    ["ends it", "echo ready; exec sleep 60", "TERM", "ready\n", [null, "SIGTERM"]],
  ] as const)("gets a signal of the client's that %s", async (_what, command, signal, output, end) => {
    const { vmId, token } = setting();
    // Not root: OpenSSH's server passes signals on only where it has given up its own rights for the user's.
    const client = await ssh2Client({ host: system.sshHost, port: system.sshPort, username: `${vmId}+alice:${token}` });
    const channel = await new Promise<ssh2.ClientChannel>((resolve, reject) => {
      client.exec(command, (error, opened) => (error ? reject(error) : resolve(opened)));
    });
    let heard = "";
    channel.on("data", (chunk: Buffer) => {
      heard += chunk.toString();
      if (heard === "ready\n") channel.signal(signal);
    });
    const exit = once(channel, "exit");
    await once(channel, "close");
    expect(heard).toBe(output);
    expect((await exit).slice(0, 2)).toEqual(end);
  });

  test("gets standard input to its end, byte for byte", async () => {
    const { ssh, root } = setting();
    const input = randomBytes(3_000_000);
    const { code, stdout } = await ssh.ssh(root, "cat", { input });
    expect(code).toBe(0);
    expect(stdout.equals(input)).toBe(true);
  });

  test("that closes its input early still says everything it has to say", async () => {
    const { ssh, root } = setting();
    const { code, stdout } = await ssh.ssh(root, "head -c 5; exec <&-; sleep 0.3; echo; echo after; exit 9", {
      input: "first and more",
    });
    expect({ code, text: stdout.toString() }).toEqual({ code: 9, text: "first\nafter\n" });
  });

  test("without any input ends by itself, many times over", async () => {
    const { ssh, root } = setting();
    for (let round = 0; round < 5; round += 1) {
      expect(await ssh.ssh(root, "cat; echo end", { flags: ["-n"] })).toMatchObject({ code: 0, stdout: Buffer.from("end\n") });
      expect(await ssh.ssh(root, "cat; echo end")).toMatchObject({ code: 0, stdout: Buffer.from("end\n") });
    }
  });

  test("passes bytes that are no UTF-8, in the command and in the output", async () => {
    const { ssh, root } = setting();
    const { stdout } = await ssh.ssh(root, "printf '\\377\\376\\000\\200'; printf '%s' 'grüße 🦊'");
    expect(stdout.equals(Buffer.concat([Buffer.from([0xff, 0xfe, 0, 0x80]), Buffer.from("grüße 🦊")]))).toBe(true);
  });

  test.each([
    ["reads end of file", [], "echo live; cat; echo over >/root/reads-end-of-file"],
    [
      "on a terminal is hung up on",
      ["-tt"],
      "trap 'echo over >/root/is-hung-up-on; exit' HUP; echo live; while :; do sleep 0.1; done",
    ],
  ])("%s in the VM when the client is killed", async (_what, flags, command) => {
    const { ssh, root, vm } = setting();
    const session = ssh.sshInBackground(root, command, flags);
    await until("the session is live", 15_000, () => (session.output.trim() === "live" ? true : undefined));
    await session.kill();
    const file = /\/root\/[a-z-]+/.exec(command)?.[0] ?? "";
    await until("the command has ended in the VM", 30_000, async () => ((await vm.fs.exists(file)) ? true : undefined));
  });

  test("gets the environment that the client sends", async () => {
    const { ssh, root } = setting();
    const { stdout } = await ssh.ssh(root, "echo $GREETING", { flags: ["-o", "SetEnv=GREETING=hello"] });
    expect(stdout.toString()).toBe("hello\n");
  });

  test("runs beside fifteen others at once, each with its own answer", async () => {
    const { ssh, root } = setting();
    const answers = await Promise.all(Array.from({ length: 15 }, (_, index) => ssh.ssh(root, `echo ${index}; exit ${index}`)));
    expect(answers.map(({ code, stdout }) => [code, stdout.toString()])).toEqual(answers.map((_, index) => [index, `${index}\n`]));
  });
});

describe("a terminal over SSH", () => {
  test("has the client's size, type and modes, and follows when the window changes", async () => {
    const { ssh, root } = setting();
    const terminal = ssh.sshOnTerminal(root, [], "stty rows 37 columns 113 intr ^X -ixon; tty");
    const [, pty = ""] = await terminal.expect(/(\/dev\/pts\/\d+)/);
    await terminal.expect(/# /);
    terminal.type("stty -a; echo type=$TERM");
    await terminal.expect(/rows 37; columns 113;/);
    await terminal.expect(/intr = \^X;/);
    await terminal.expect(/-ixon/);
    await terminal.expect(/type=xterm-256color/);
    await resize(pty, 51, 140);
    await until("the VM's terminal has the new size", 15_000, async () => {
      terminal.type("stty size");
      return (await terminal.expect(/(\d+) (\d+)\r\n/))[0] === "51 140\r\n" ? true : undefined;
    });
    terminal.type("exit 0");
    expect(await terminal.exitCode()).toBe(0);
  });

  test("sends the interrupt key to what runs in it", async () => {
    const { ssh, root } = setting();
    const terminal = ssh.sshOnTerminal(root);
    await terminal.expect(/# /);
    terminal.type("cat >/dev/null; echo status=$?");
    await terminal.expect(/status/);
    terminal.press("\x03");
    await terminal.expect(/\^C/);
    terminal.type("echo alive");
    await terminal.expect(/alive\r\n/);
    terminal.type("exit 7");
    expect(await terminal.exitCode()).toBe(7);
  });

  test("is given to a command when asked for, and not otherwise", async () => {
    const { ssh, root } = setting();
    expect((await ssh.ssh(root, "tty", { flags: ["-tt"] })).stdout.toString()).toMatch(/^\/dev\/pts\/\d+/);
    expect((await ssh.ssh(root, "tty")).stdout.toString()).toBe("not a tty\n");
  });
});

async function resize(pty: string, rows: number, columns: number): Promise<void> {
  await run("stty", ["-F", pty, "rows", String(rows), "columns", String(columns)]);
}
