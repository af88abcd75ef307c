import { createHash, randomBytes } from "node:crypto";
import { readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ssh2 from "ssh2";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type CommandOptions, type Finished, run } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

const PARAMIKO = fileURLToPath(new URL("../support/paramiko-session.py", import.meta.url));
const GREETING = "220 first bytes\n";

let world: World;
let greeter: Server;
let greeterPort: number;
beforeAll(async () => {
  world = await openWorld();
  greeter = createServer((socket) => socket.end(GREETING));
  await new Promise<void>((resolve) => greeter.listen(0, "127.0.0.1", resolve));
  const address = greeter.address();
  greeterPort = typeof address === "object" && address !== null ? address.port : expect.fail("no port");
});
afterAll(async () => {
  greeter.close();
  await world.close();
});

/** Runs a client with a home of its own, so that it finds no keys and no known hosts. */
function client(command: string, args: readonly string[], options: CommandOptions = {}): Promise<Finished> {
  return run(command, args, { ...options, env: { HOME: world.folder, ...options.env } });
}

function randomFile(name: string): { path: string; hash: string } {
  const path = join(world.folder, name);
  writeFileSync(path, randomBytes(3_000_000));
  return { path, hash: hashOf(path) };
}

function hashOf(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

describe("Dropbear's dbclient", () => {
  // By -l: it takes a comma in `user@host` for a chain of hosts.
  const dbclient = (user: string, more: readonly string[], command: readonly string[], options?: CommandOptions) =>
    client("dbclient", ["-y", "-y", "-p", String(world.port), ...more, "-l", user, "127.0.0.1", ...command], options);

  test.each([":", ","])("logs in by a token after %j, and gets both streams and the exit code", async (separator) => {
    const result = await dbclient(`${world.vmId}+root${separator}${world.token}`, [], ["echo out; echo err >&2; exit 3"]);
    expect(result.stderr).toContain("err\n");
    expect(result).toMatchObject({ code: 3, stdout: Buffer.from("out\n") });
  });

  test("logs in by the token as the password", async () => {
    const result = await dbclient(world.vmId, [], ["whoami"], { env: { DROPBEAR_PASSWORD: world.token } });
    expect(result).toMatchObject({ code: 0, stdout: Buffer.from("root\n") });
  });

  test("carries input to its end and back, byte for byte", async () => {
    const bytes = randomBytes(3_000_000);
    const result = await dbclient(`${world.vmId}:${world.token}`, [], ["cat"], { input: bytes });
    expect(result.stdout.equals(bytes)).toBe(true);
  });

  test("reaches a port of the VM", async () => {
    const result = await dbclient(`${world.vmId}:${world.token}`, ["-B", `127.0.0.1:${greeterPort}`], []);
    expect(result.stdout.toString()).toBe(GREETING);
  });

  test("is refused a wrong token with the reason", async () => {
    const result = await dbclient(`${world.vmId}:pst_wrong`, [], ["whoami"]);
    expect(result.code).not.toBe(0);
    expect(result.stdout.toString()).toBe("");
    expect(result.stderr).toContain("The access token was not accepted.");
  });
});

describe("PuTTY's tools", () => {
  /** They take a host key only by its fingerprint when nobody is there to ask. */
  async function options(user: string): Promise<string[]> {
    const key = join(world.folder, "gateway.pub");
    writeFileSync(key, (await client("ssh-keyscan", ["-t", "ed25519", "-p", String(world.port), "127.0.0.1"])).stdout);
    const fingerprint = /SHA256:\S+/.exec((await client("ssh-keygen", ["-l", "-f", key])).stdout.toString())?.[0] ?? "";
    return ["-batch", "-P", String(world.port), "-hostkey", fingerprint, "-l", user];
  }

  test("plink logs in by a token in the name and as the password, and gets the exit code", async () => {
    const named = await client("plink", [
      "-ssh",
      ...(await options(`${world.vmId}:${world.token}`)),
      "127.0.0.1",
      "whoami; exit 3",
    ]);
    expect(named, named.stderr).toMatchObject({ code: 3, stdout: Buffer.from("root\n") });
    const secret = join(world.folder, "secret");
    writeFileSync(secret, world.token, { mode: 0o600 });
    const asked = await options(`${world.vmId}+root`);
    const typed = await client("plink", ["-ssh", ...asked, "-pwfile", secret, "127.0.0.1", "whoami"]);
    expect(typed, typed.stderr).toMatchObject({ code: 0, stdout: Buffer.from("root\n") });
  });

  test("plink reaches a port of the VM", async () => {
    const user = await options(`${world.vmId}:${world.token}`);
    const result = await client("plink", ["-ssh", ...user, "-nc", `127.0.0.1:${greeterPort}`, "127.0.0.1"]);
    expect(result.stdout.toString()).toBe(GREETING);
  });

  test("psftp carries a file both ways unchanged", async () => {
    const { path, hash } = randomFile("psftp");
    const batch = join(world.folder, "psftp-batch");
    writeFileSync(batch, `put ${path} ${path}-there\nget ${path}-there ${path}-back\n`);
    const result = await client("psftp", [...(await options(`${world.vmId},${world.token}`)), "-b", batch, "127.0.0.1"]);
    expect(result, result.stderr).toMatchObject({ code: 0 });
    expect(hashOf(`${path}-back`)).toBe(hash);
  });

  test("plink is refused a wrong token with the reason", async () => {
    // What a server says before the login is shown by -v only when nobody watches.
    const result = await client("plink", ["-ssh", "-v", ...(await options(`${world.vmId}:pst_wrong`)), "127.0.0.1", "whoami"]);
    expect(result.code).not.toBe(0);
    expect(`${result.stdout}${result.stderr}`).toContain("The access token was not accepted.");
  });
});

test("lftp carries a file there, on from the middle, and back, with the token as the password", async () => {
  const { path, hash } = randomFile("lftp");
  const part = `${path}-there`;
  writeFileSync(part, readFileSync(path).subarray(0, 1_000_000));
  const program = `ssh -a -x ${world.options().join(" ")}`;
  const script = [
    "set net:max-retries 1",
    "set cmd:fail-exit yes",
    "set sftp:auto-confirm yes",
    `set sftp:connect-program '${program}'`,
    `open -p ${world.port} -u ${world.vmId},${world.token} sftp://127.0.0.1`,
    `put -c ${path} -o ${part}`,
    `get ${part} -o ${path}-back`,
  ];
  const result = await client("lftp", ["-c", script.join("; ")]);
  expect(result, result.stderr).toMatchObject({ code: 0 });
  expect(hashOf(`${path}-back`)).toBe(hash);
});

test("Python's Paramiko logs in by every method, and its terminal, files and forwards work", async () => {
  const args = [PARAMIKO, String(world.port), world.vmId, world.folder, String(greeterPort)];
  const result = await client("/usr/bin/python3", args, { env: { TOKEN: world.token } });
  expect(result.code, result.stderr).toBe(0);
  expect(JSON.parse(result.stdout.toString())).toEqual({
    none: true,
    password: true,
    interactive: true,
    refused: expect.stringContaining("The access token was not accepted."),
    terminal: ["31 97\r\n", 4],
    sftp: true,
    forward: GREETING,
  });
});

describe("Node's ssh2", () => {
  async function connected(config: ssh2.ConnectConfig): Promise<ssh2.Client> {
    const connection = new ssh2.Client();
    await new Promise<void>((resolve, reject) => {
      connection.on("ready", resolve);
      connection.on("error", reject);
      connection.on("keyboard-interactive", (_name, _text, _lang, prompts, finish) => finish(prompts.map(() => world.token)));
      connection.connect({ host: "127.0.0.1", port: world.port, ...config });
    });
    return connection;
  }

  /** `last`: a command's channel is over at its close; a forward's only once we end our side too. */
  function readAll(stream: NodeJS.ReadableStream, last: "close" | "end" = "close"): Promise<string> {
    return new Promise((resolve, reject) => {
      let text = "";
      stream.on("data", (chunk: Buffer) => {
        text += chunk.toString();
      });
      stream.on("error", reject);
      stream.on(last, () => resolve(text));
    });
  }

  test.each<[string, () => ssh2.ConnectConfig]>([
    ["in the name", () => ({ username: `${world.vmId}:${world.token}` })],
    ["as the password", () => ({ username: world.vmId, password: world.token })],
    ["as the answer", () => ({ username: world.vmId, tryKeyboard: true })],
  ])("logs in with the token %s and gets a command's output and exit code", async (_how, config) => {
    const connection = await connected(config());
    const ended = await new Promise<[string, number]>((resolve, reject) => {
      connection.exec("whoami; exit 3", (error, channel) => {
        if (error) return reject(error);
        let code = -1;
        channel.on("exit", (status: number) => {
          code = status;
        });
        void readAll(channel).then((text) => resolve([text, code]));
      });
    });
    expect(ended).toEqual(["root\n", 3]);
    connection.end();
  });

  test("carries files with many requests under way, as JetBrains and others upload, beside a command", async () => {
    const { path, hash } = randomFile("ssh2");
    const connection = await connected({ username: `${world.vmId},${world.token}` });
    const sftp = await new Promise<ssh2.SFTPWrapper>((resolve, reject) => {
      connection.sftp((error, opened) => (error ? reject(error) : resolve(opened)));
    });
    const call = (begin: (done: (error?: Error | null) => void) => void) =>
      new Promise<void>((resolve, reject) => begin((error) => (error ? reject(error) : resolve())));
    const command = new Promise<string>((resolve, reject) => {
      connection.exec("echo beside", (error, channel) => (error ? reject(error) : resolve(readAll(channel))));
    });
    await call((done) => sftp.fastPut(path, `${path}.part`, { concurrency: 64, chunkSize: 32_768 }, done));
    await call((done) => sftp.rename(`${path}.part`, `${path}-there`, done));
    await call((done) => sftp.chmod(`${path}-there`, 0o755, done));
    // OpenSSH's server takes the two paths the other way round, and clients know it by its name.
    await call((done) => sftp.symlink(`${path}-there`, `${path}-link`, done));
    expect(readlinkSync(`${path}-link`)).toBe(`${path}-there`);
    await call((done) => sftp.fastGet(`${path}-there`, `${path}-back`, { concurrency: 64, chunkSize: 32_768 }, done));
    expect(hashOf(`${path}-back`)).toBe(hash);
    expect(await command).toBe("beside\n");
    connection.end();
  });

  test("reaches ports and unix sockets of the VM, and is told of one that nobody listens on", async () => {
    const path = join(world.folder, "ssh2.sock");
    const server = createServer((socket) => socket.end("unix\n"));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const connection = await connected({ username: `${world.vmId}:${world.token}` });
    const opened = (begin: (done: ssh2.ClientCallback) => void) =>
      new Promise<string>((resolve, reject) =>
        begin((error, channel) => (error ? reject(error) : resolve(readAll(channel, "end")))),
      );
    expect(await opened((done) => connection.forwardOut("127.0.0.1", 1, "127.0.0.1", greeterPort, done))).toBe(GREETING);
    expect(await opened((done) => connection.openssh_forwardOutStreamLocal(path, done))).toBe("unix\n");
    await expect(opened((done) => connection.forwardOut("127.0.0.1", 1, "127.0.0.1", 9, done))).rejects.toThrow(
      "Connection refused",
    );
    connection.end();
    server.close();
  });
});
