import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import ssh2 from "ssh2";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Finished, run, until } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(() => world.close());

const WHOAMI = "whoami";

function attempt(user: string, secret: string, ...options: string[]): Promise<Finished> {
  const more = options.flatMap((option) => ["-o", option]);
  return run("ssh", [...more, "-o", "NumberOfPasswordPrompts=1", ...world.ssh(user, WHOAMI)], { env: world.answering(secret) });
}

function byName(user: string): Promise<Finished> {
  return run("ssh", ["-o", "BatchMode=yes", ...world.ssh(user, WHOAMI)]);
}

/** What the person sees, without what differs from one connection to the next. */
function shown(result: Finished): string {
  return result.stderr.replace(/^Warning: Permanently added[^\n]*\n/, "").replace(/[a-z0-9]{20}[:,]\w*@/g, "user@");
}

test.each([":", ","])("a token after %j in the user name logs in, with and without a Linux user", async (separator) => {
  const plain = await byName(`${world.vmId}${separator}${world.token}`);
  expect(plain.stdout.toString()).toBe("root\n");
  const named = await byName(`${world.vmId}+root${separator}${world.token}`);
  expect(named.stdout.toString()).toBe("root\n");
  expect(world.edge.ticketRequests.map((request) => request.linuxUser)).toEqual([null, "root"]);
});

test.each(["keyboard-interactive", "password"])("a token typed as the answer to %s logs in", async (method) => {
  const result = await attempt(world.vmId, world.token, `PreferredAuthentications=${method}`);
  expect(result.stdout.toString()).toBe("root\n");
});

test("a token typed at a terminal's prompt logs in", async () => {
  const result = await run("sshpass", ["-e", "ssh", ...world.ssh(`${world.vmId}+root`, WHOAMI)], {
    env: { SSHPASS: world.token },
  });
  expect(result.stdout.toString()).toBe("root\n");
});

test("a token in the name decides whatever password is sent along", async () => {
  const result = await new Promise<string>((resolve) => {
    const client = new ssh2.Client();
    client.on("ready", () => {
      resolve("ready");
      client.end();
    });
    client.on("error", (error) => resolve(error.message));
    client.connect({
      host: "127.0.0.1",
      port: world.port,
      username: `${world.vmId}:${world.token}`,
      password: "anything",
      authHandler: ["password"],
    });
  });
  expect(result).toBe("ready");
});

test("a wrong token in the name is refused with its reason, and no password is asked for", async () => {
  const result = await byName(`${world.vmId}:pst_wrong`);
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("The access token was not accepted.");
  expect(result.stderr).toContain("Permission denied ().");
});

test.each(["keyboard-interactive", "password"])("a wrong token as %s is refused with its reason", async (method) => {
  const result = await attempt(world.vmId, "pst_wrong", `PreferredAuthentications=${method}`);
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("The access token was not accepted.");
});

test("a revoked token is refused like one that never was", async () => {
  const revoked = world.edge.addToken("pst_revoked", world.vmId);
  revoked.revoked = true;
  const [gone, never] = [await byName(`${world.vmId}:pst_revoked`), await byName(`${world.vmId}:pst_neverwas`)];
  expect(shown(gone)).toBe(shown(never));
  expect(shown(never)).toContain("The access token was not accepted.");
});

test("a VM that is not granted and one that does not exist are refused in the same words", async () => {
  world.edge.addToken("pst_other", "b".repeat(20));
  const notGranted = await byName(`${"b".repeat(20)}:${world.token}`);
  const unknown = await byName(`${"c".repeat(20)}:${world.token}`);
  expect(notGranted.code).toBe(255);
  expect(shown(notGranted)).toBe(shown(unknown));
  expect(unknown.stderr).toContain("not granted");
});

test("a Linux user outside the grant is refused, and the allowed ones are named", async () => {
  world.edge.addToken("pst_restricted", world.vmId, ["developer", "deploy"]);
  const result = await byName(`${world.vmId}:pst_restricted`);
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("You may log in as developer, deploy only.");
});

test("a name of the wrong form is refused without asking the edge", async () => {
  for (const user of ["root", "short:token", `${world.vmId}+Bad:${world.token}`, `${world.vmId}:`]) {
    const result = await attempt(user, world.token);
    expect(result.code, user).toBe(255);
    expect(result.stderr, user).toContain("The SSH user name must be");
  }
  expect(world.edge.ticketRequests).toEqual([]);
});

test("a name without a token is never let in by the method none", async () => {
  const result = await byName(world.vmId);
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("Permission denied (password,keyboard-interactive)");
  expect(world.edge.ticketRequests).toEqual([]);
});

test("an edge that is down means try again, not denied", async () => {
  await world.edge.stop();
  const result = await byName(`${world.vmId}:${world.token}`);
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("try again in a moment");
  expect(result.stderr).not.toContain("not accepted");
});

test.each([
  [500, "<html>oops</html>"],
  [502, ""],
  [200, "{}"],
  [200, '{"ticket":"not.a.ticket"}'],
  [401, "[]"],
])("an edge that answers %i %j means try again", async (status, body) => {
  world.edge.broken = { status, body };
  const result = await byName(`${world.vmId}:${world.token}`);
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("try again in a moment");
});

test("what the edge says is shown without control characters", async () => {
  world.edge.broken = { status: 403, body: JSON.stringify({ kind: "forbidden", message: "no\u001b[2J\r\nway\u202e!" }) };
  const result = await byName(`${world.vmId}:${world.token}`);
  expect(result.stderr).toContain("no [2J way !");
  expect(result.stderr).not.toContain("\u001b");
});

test.each([
  ["another forwarder", { azp: "forwarder:bbbbbbbbbbbbbbbb" }],
  ["another VM", { vm: "d".repeat(20) }],
  ["another operation", { op: "exec" }],
  ["no Linux user", { user: null }],
  ["another region", { aud: ["host:hosthosthosthost", "forwarder:elsewhere"] }],
] as const)("a ticket of the edge for %s is not used", async (_what, changes) => {
  world.edge.tamper = (claims) => ({ ...claims, ...changes, aud: "aud" in changes ? [...changes.aud] : claims.aud });
  const result = await byName(`${world.vmId}:${world.token}`);
  expect(result.code).toBe(255);
  expect(world.host.tunnels).toEqual([]);
});

test("after six refused attempts the connection is ended", async () => {
  let asked = 0;
  const ended = await new Promise<string>((resolve) => {
    const client = new ssh2.Client();
    client.on("error", (error) => resolve(error.message));
    client.connect({
      host: "127.0.0.1",
      port: world.port,
      username: world.vmId,
      authHandler: () => {
        asked += 1;
        return { type: "password", username: world.vmId, password: `pst_wrong${asked}` };
      },
    });
  });
  expect(ended).toContain("Too many login attempts.");
  expect(asked).toBe(6);
  expect(world.edge.ticketRequests).toHaveLength(6);
});

test("changing the user name between attempts ends the connection", async () => {
  let asked = 0;
  const ended = await new Promise<string>((resolve) => {
    const client = new ssh2.Client();
    client.on("error", (error) => resolve(error.message));
    client.on("ready", () => resolve("ready"));
    client.connect({
      host: "127.0.0.1",
      port: world.port,
      username: world.vmId,
      authHandler: () => {
        asked += 1;
        if (asked > 2) return false;
        return asked === 1
          ? { type: "password", username: world.vmId, password: "pst_wrong" }
          : { type: "password", username: `${world.vmId}+root`, password: world.token };
      },
    });
  });
  expect(ended).not.toBe("ready");
  expect(world.edge.ticketRequests).toHaveLength(1);
});

test("a public key, even a signed one, lets nobody in and leaves the other methods", async () => {
  const key = join(world.folder, "client-key");
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
  const methods: unknown[] = [];
  await new Promise<void>((resolve) => {
    const client = new ssh2.Client();
    client.on("error", () => resolve());
    client.on("ready", () => methods.push("ready"));
    let tried = false;
    client.connect({
      host: "127.0.0.1",
      port: world.port,
      username: `${world.vmId}:${world.token}`,
      authHandler: (left) => {
        if (tried) {
          methods.push(left);
          return false;
        }
        tried = true;
        return { type: "publickey", username: `${world.vmId}:${world.token}`, key: readFileSync(key) };
      },
    });
  });
  expect(methods).toEqual([["password", "keyboard-interactive"]]);
  expect(world.edge.ticketRequests).toEqual([]);
});

test("opening a channel before the login ends the connection", async () => {
  const ended = await new Promise<string>((resolve) => {
    const client = new ssh2.Client();
    client.on("error", (error) => resolve(error.message));
    client.on("handshake", () => setImmediate(() => client.exec("true", () => undefined)));
    client.connect({ host: "127.0.0.1", port: world.port, username: world.vmId, authHandler: () => undefined as never });
  });
  expect(ended).toContain("Log in first.");
});

test("bytes that are no SSH end their own connection and no other", async () => {
  const garbage = connect(world.port, "127.0.0.1");
  garbage.on("error", () => undefined);
  const closed = new Promise<void>((resolve) => garbage.on("close", () => resolve()));
  garbage.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  garbage.resume();
  await closed;
  const late = connect(world.port, "127.0.0.1");
  late.on("error", () => undefined);
  const lateClosed = new Promise<void>((resolve) => late.on("close", () => resolve()));
  late.write(Buffer.concat([Buffer.from("SSH-2.0-x\r\n"), Buffer.alloc(4096, 0xff)]));
  late.resume();
  await lateClosed;
  expect((await byName(`${world.vmId}:${world.token}`)).code).toBe(0);
});

test("neither tokens nor user names reach the log", async () => {
  await byName(`${world.vmId}+root:${world.token}`);
  await byName(`${world.vmId}+root:pst_wrong`);
  await byName("weird name");
  await until("the session is logged", () => world.log.some((line) => line.includes("logged in")));
  const log = world.log.join("");
  expect(log).not.toContain(world.token);
  expect(log).not.toContain("pst_");
  expect(log).not.toContain("weird");
  expect(log).not.toContain(world.edge.serviceKey);
  for (const { ticket } of world.host.tunnels) expect(log).not.toContain(ticket);
});
