import { randomBytes } from "node:crypto";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { type BackgroundCommand, run } from "../system/command.ts";
import { decodeEditorUrl } from "../system/editor-url.ts";
import { system } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { freePort } from "../system/ports.ts";
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
  const refused = await run(process.execPath, [POSTERN, "editor-urls", "b".repeat(20)], { env });
  expect(refused).toMatchObject({ code: 1, stdout: Buffer.alloc(0) });
});

/** What VS Code's script does in its essence: it starts a server that outlives the connection, or finds the one that runs. */
const SCRIPT = `
cd /root/editor
if ! kill -0 $(cat pid) 2>/dev/null; then
  nohup setsid python3 -u server.py >log 2>&1 </dev/null &
  echo $! >pid
fi
until port=$(cat log) && [ -n "$port" ]; do sleep 0.05; done
echo start; echo "listeningOn==$port=="; echo end
`;

/** Sends `extension` to whoever asks, at a port of its choice and on a unix socket. */
const SERVER = `
import socket, threading

content = open("extension", "rb").read()

def answer(client):
    client.recv(65536)
    client.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(content) + content)
    client.close()

def serve(listener):
    listener.listen(64)
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

local = socket.socket(socket.AF_UNIX)
local.bind("/root/editor/server.sock")
threading.Thread(target=serve, args=(local,), daemon=True).start()
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
print(listener.getsockname()[1])
serve(listener)
`;

/** `ssh -v -T -D <port> -o ConnectTimeout=15 <host> bash`, the script on its standard input, which stays open. */
async function connectLikeVsCode(): Promise<{ editor: BackgroundCommand; socksPort: number; serverPort: string }> {
  const { ssh, root } = setting();
  const socksPort = await freePort();
  const editor = ssh.sshInBackground(root, "bash", ["-v", "-T", "-D", String(socksPort), "-o", "ConnectTimeout=15"]);
  onTestFinished(() => editor.kill());
  editor.process.stdin.write(SCRIPT);
  const [, serverPort = ""] = await until(
    "the editor's server listens",
    DEADLINE_MS,
    () => /listeningOn==(\d+)==/.exec(editor.output) ?? undefined,
  );
  return { editor, socksPort, serverPort };
}

const fetched = (...words: string[]) => run("curl", ["-sS", "--max-time", "20", ...words]);

test("VS Code's connection to a sleeping VM runs its script; six requests through its SOCKS port, and one by a second connection to a unix socket, reach the server; so does who dials again", async () => {
  const { ssh, vm, root } = setting();
  const extension = randomBytes(2_000_000);
  await vm.exec("mkdir /root/editor");
  await vm.fs.writeFile("/root/editor/extension", extension);
  await vm.fs.writeTextFile("/root/editor/server.py", SERVER);
  await vm.stop();
  const first = await connectLikeVsCode();
  const url = `http://localhost:${first.serverPort}/extension`;
  const requests = Array.from({ length: 6 }, () => fetched("--socks5-hostname", `127.0.0.1:${first.socksPort}`, url));
  for (const { stdout, stderr } of await Promise.all(requests)) expect(stdout.equals(extension), stderr).toBe(true);

  const local = await freePort();
  const forward = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", `127.0.0.1:${local}:/root/editor/server.sock`];
  const second = ssh.sshInBackground(root, null, forward);
  onTestFinished(() => second.kill());
  await until("the forward answers", DEADLINE_MS, async () =>
    (await fetched(`http://127.0.0.1:${local}/`)).stdout.equals(extension) ? true : undefined,
  );

  // The laptop slept: the connections are gone, and the same token dials again and finds its server.
  await Promise.all([first.editor.kill(), second.kill()]);
  const again = await connectLikeVsCode();
  expect(again.serverPort).toBe(first.serverPort);
  expect((await fetched("--socks5-hostname", `127.0.0.1:${again.socksPort}`, url)).stdout.equals(extension)).toBe(true);
});
