import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { decodeEditorUrl } from "../../system/editor-url.ts";
import { freePort } from "../../system/ports.ts";
import { type Running, run, until } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

const POSTERN = fileURLToPath(new URL("../../../bin/postern.ts", import.meta.url));

let world: World;
const running: Running[] = [];
beforeEach(async () => {
  world = await openWorld();
});
afterEach(async () => {
  for (const { child, done } of running.splice(0)) {
    child.kill("SIGKILL");
    await done;
  }
  await world.close();
});

/** Where the editor's server listens, as the script that starts it says. */
const LISTENING = /listeningOn==(\d+)==/;

/** What VS Code's script does in its essence: it starts a server that outlives the connection, or finds the one that runs. */
function serverScript(folder: string): string {
  return [
    `cd '${folder}'`,
    "if ! kill -0 $(cat pid) 2>/dev/null; then",
    "  nohup setsid /usr/bin/python3 -u -m http.server 0 --bind 127.0.0.1 --directory served >log 2>&1 </dev/null &",
    "  echo $! >pid",
    "fi",
    "until port=$(grep -o 'port [0-9]*' log | cut -d' ' -f2) && [ -n \"$port\" ]; do sleep 0.05; done",
    'echo "start"; echo "listeningOn==$port=="; echo "end"',
    "",
  ].join("\n");
}

/** `ssh -v -T -D <port> -o ConnectTimeout=… <host> bash`, the script on its standard input, which stays open. */
async function connectLikeVsCode(script: string, connectTimeoutS = 15): Promise<{ ssh: Running; socksPort: number }> {
  const socksPort = await freePort();
  const words = ["-v", "-T", "-D", String(socksPort), "-o", `ConnectTimeout=${connectTimeoutS}`];
  const ssh = world.startSsh([...words, ...world.ssh(`${world.vmId},${world.token}`, "bash")], { input: "open" });
  running.push(ssh);
  ssh.child.stdin?.write(script);
  return { ssh, socksPort };
}

async function listeningPort(ssh: Running): Promise<string> {
  await until("the editor's server listens", () => LISTENING.test(ssh.stdout()));
  return LISTENING.exec(ssh.stdout())?.[1] ?? "";
}

test("each URL that is printed for a VM and a token opens the VM when decoded as its editor does", async () => {
  const tokenFile = join(world.folder, "token");
  writeFileSync(tokenFile, world.token, { mode: 0o600 });
  const env = { POSTERN_API_URL: world.edge.url, POSTERN_TOKEN_FILE: tokenFile };
  for (const target of [world.vmId, `${world.vmId}+root`]) {
    const printed = await run(process.execPath, [POSTERN, "editor-urls", target], { env });
    expect(printed, printed.stderr).toMatchObject({ code: 0 });
    const lines = printed.stdout.toString().trim().split("\n");
    const urls = lines.map((line) => line.split(/\s+/)[1] ?? "").filter((url) => url.includes("://"));
    expect(urls.map((url) => url.split(":")[0])).toEqual(["vscode", "cursor", "cmux"]);
    for (const url of urls) {
      const { user, host, port } = decodeEditorUrl(url);
      const shell = await run("ssh", [...world.options(), "-p", String(port), "-l", user, host, "whoami"]);
      expect(shell.stdout.toString(), url).toBe("root\n");
    }
  }
  const refused = await run(process.execPath, [POSTERN, "editor-urls", "b".repeat(20)], { env });
  expect(refused).toMatchObject({ code: 1, stdout: Buffer.alloc(0) });
});

test("VS Code's connection runs its script, and many requests through its SOCKS port reach the server, for one question to the edge", async () => {
  const folder = join(world.folder, "editor");
  mkdirSync(join(folder, "served"), { recursive: true });
  const content = randomBytes(2_000_000);
  writeFileSync(join(folder, "served", "extension"), content);
  const { ssh, socksPort } = await connectLikeVsCode(serverScript(folder));
  const port = await listeningPort(ssh);
  try {
    const fetchIt = (through: number) =>
      run("curl", ["-sS", "--max-time", "20", "--socks5-hostname", `127.0.0.1:${through}`, `http://localhost:${port}/extension`]);
    const hash = createHash("sha256").update(content).digest("hex");
    for (const { stdout, stderr } of await Promise.all(Array.from({ length: 6 }, () => fetchIt(socksPort)))) {
      expect(createHash("sha256").update(stdout).digest("hex"), stderr).toBe(hash);
    }
    // The laptop slept: the connection is gone, and the same token dials again and finds its server.
    ssh.child.kill("SIGKILL");
    await ssh.done;
    const again = await connectLikeVsCode(serverScript(folder));
    expect(await listeningPort(again.ssh)).toBe(port);
    expect((await fetchIt(again.socksPort)).stdout.equals(content)).toBe(true);
    expect(world.edge.ticketRequests).toHaveLength(1);
  } finally {
    process.kill(Number(readFileSync(join(folder, "pid"), "utf8")));
  }
});

test("the editor's server on a unix socket is reached from a second connection", async () => {
  const path = join(world.folder, "server.sock");
  const server = createServer((_request, response) => response.end("from a unix socket"));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  await connectLikeVsCode("echo ready\n");
  const local = await freePort();
  const forward = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", `127.0.0.1:${local}:${path}`];
  running.push(world.startSsh([...forward, ...world.ssh(`${world.vmId},${world.token}`)], { input: "open" }));
  await until("the forward answers", async () => {
    const { stdout } = await run("curl", ["-s", "--max-time", "5", `http://127.0.0.1:${local}/`]);
    return stdout.toString() === "from a unix socket";
  });
  server.closeAllConnections();
  server.close();
});

test("a VM that takes longer to wake than the editor waits for a connection still gets the editor's script", async () => {
  let wake: () => void = () => undefined;
  world.host.waking = new Promise((resolve) => {
    wake = resolve;
  });
  const begun = Date.now();
  const { ssh } = await connectLikeVsCode("echo listeningOn==1==\n", 1);
  await until("it is logged in", () => ssh.stderr().includes("Authenticated to"));
  await until("the editor's time is over", () => Date.now() - begun > 2_000);
  expect(ssh.child.exitCode).toBe(null);
  wake();
  expect(await listeningPort(ssh)).toBe("1");
});
