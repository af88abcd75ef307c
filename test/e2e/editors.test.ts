import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { run } from "../system/command.ts";
import { decodeEditorUrl } from "../system/editor-url.ts";
import { system } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { freePort } from "../system/ports.ts";
import { throughSocks } from "../system/socks.ts";
import { sshSetting } from "../system/ssh-fixture.ts";

const POSTERN = fileURLToPath(new URL("../../bin/postern.ts", import.meta.url));
const DEADLINE_MS = 20_000;

const setting = sshSetting();

/** The environment of a client with a home of its own, so that it finds no keys and no known hosts. */
function environment(more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, HOME: setting().ssh.folder, LANG: "C.UTF-8", ...more };
}

test("the URLs that are printed for a VM and a token open it in each editor, as root and as a Linux user", async () => {
  const { ssh, vmId, token } = setting();
  const tokenFile = join(ssh.folder, "token");
  writeFileSync(tokenFile, token);
  chmodSync(tokenFile, 0o600);
  const env = environment({ POSTERN_API_URL: system.apiUrl, POSTERN_TOKEN_FILE: tokenFile });
  for (const [target, user, more] of [
    [vmId, "root", []],
    [`${vmId}+alice`, "alice", ["--domain", "vm-ssh.freestyle.sh"]],
  ] as const) {
    const printed = await run(process.execPath, [POSTERN, "editor-urls", target, ...more], { env });
    const urls = printed.stdout.toString().match(/\S+:\/\/\S+/g) ?? [];
    expect(urls, printed.stderr).toHaveLength(3);
    for (const url of urls) {
      const decoded = decodeEditorUrl(url);
      const port = decoded.port === null ? "" : `-p ${decoded.port} `;
      const shell = await ssh.pasted(`ssh ${port}${decoded.user}@${decoded.host}`, "id -un");
      expect(shell.stdout.toString(), url).toBe(`${user}\n`);
    }
  }
});

test("VS Code's connection to a sleeping VM runs its script, and six connections through its SOCKS port reach the VM", async () => {
  const { ssh, vm, root } = setting();
  await vm.stop();
  const socksPort = await freePort();
  const editor = ssh.sshInBackground(root, "bash", ["-T", "-D", String(socksPort)]);
  editor.process.stdin.write("echo listeningOn==22==\n");
  try {
    await until("the script ran", DEADLINE_MS, () => (editor.output.includes("listeningOn==22==") ? true : undefined));
    const connections = await Promise.all(Array.from({ length: 6 }, () => throughSocks(socksPort, "localhost", 22)));
    for (const connection of connections) {
      const greeting = await new Promise<Buffer>((resolve) => connection.once("data", resolve));
      expect(greeting.toString("latin1")).toMatch(/^SSH-2\.0-OpenSSH/);
      connection.destroy();
    }
    await expect(throughSocks(socksPort, "localhost", 9)).rejects.toThrow();
  } finally {
    await editor.kill();
  }
});

test.each<[string, (user: string, host: string, port: string) => string[]]>([
  ["Dropbear's dbclient", (user, host, port) => ["dbclient", "-y", "-y", "-p", port, "-l", user, host, "id -un; exit 3"]],
  [
    "PuTTY's plink",
    (user, host, port) => ["plink", "-ssh", "-batch", "-P", port, "-hostkey", "KEY", "-l", user, host, "id -un; exit 3"],
  ],
  ["Python's Paramiko", (user, host, port) => ["/usr/bin/python3", "-c", PARAMIKO, user, host, port]],
])("%s logs in to a guest and gets output and exit code", async (_what, words) => {
  const { ssh, vmId, token } = setting();
  const listed = await run("ssh-keygen", ["-l", "-f", ssh.knownHosts]);
  const fingerprint = /(SHA256:\S+) .*ED25519/.exec(listed.stdout.toString())?.[1] ?? expect.fail("no host key is published");
  const [command = "", ...rest] = words(`${vmId}+alice:${token}`, system.sshHost, String(system.sshPort));
  const args = rest.map((word) => (word === "KEY" ? fingerprint : word));
  const result = await run(command, args, { env: environment() });
  expect(result, result.stderr).toMatchObject({ code: 3, stdout: Buffer.from("alice\n") });
});

const PARAMIKO = `
import paramiko, sys
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect(sys.argv[2], int(sys.argv[3]), username=sys.argv[1], password="unused", look_for_keys=False, allow_agent=False)
_, out, _ = client.exec_command("id -un; exit 3")
sys.stdout.write(out.read().decode())
sys.exit(out.channel.recv_exit_status())
`;
