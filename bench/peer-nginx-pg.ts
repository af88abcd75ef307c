import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { choosePort } from "../bin/start/ports.ts";
import { until } from "../test/system/poll.ts";
import { cpuMicroseconds, familyOf, findDescendant } from "../test/system/processes.ts";
import { ownToken } from "./account.ts";
import { cpuPerRequest, inTurns } from "./cpu.ts";
import type { Benchmark } from "./figure.ts";

const POSTGRES = "/usr/lib/postgresql/15/bin";
const NGINX = "/usr/sbin/nginx";
const CHECK = fileURLToPath(new URL("peers/pg-check.ts", import.meta.url));
/** PostgreSQL does not run as root. */
const AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"] as const;

/**
 * CPU time for one token check: ours (`GET /auth/v1/whoami`, which reads the identity's and the account's object; workerd) against
 * nginx with `auth_request` to a Node service that asks PostgreSQL (all three together). Rounds alternate.
 */
export const peerNginxPg: Benchmark = {
  id: "peer.nginx_pg_ratio",
  against: "nginx auth_request to Node and PostgreSQL",
  measure: async (system) => {
    const peer = await startPeer();
    try {
      const ours = { "x-freestyle-identity-access-token": await ownToken(system) };
      const ownPid = findDescendant(system.pid, "workerd");
      const check = () => cpuPerRequest(() => cpuMicroseconds(ownPid), `${system.apiUrl}/auth/v1/whoami`, ours);
      const peerCheck = () => cpuPerRequest(peer.cpu, peer.url, { authorization: `Bearer ${peer.token}` });
      return await inTurns(check, peerCheck);
    } finally {
      await peer.stop();
    }
  },
};

interface Peer {
  readonly url: string;
  readonly token: string;
  cpu(): number;
  stop(): Promise<void>;
}

/** Starts all three on loopback in a folder of their own. */
async function startPeer(): Promise<Peer> {
  for (const needed of [NGINX, `${POSTGRES}/postgres`]) {
    if (!existsSync(needed)) throw new Error(`${needed} is missing: apt-get install nginx-light postgresql-15`);
  }
  const folder = mkdtempSync(join(tmpdir(), "postern-bench-peer-"));
  chmodSync(folder, 0o755);
  const children: ChildProcess[] = [];
  const start = (command: string, args: readonly string[]) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "ignore"] });
    children.push(child);
    return child;
  };
  const stop = async () => {
    for (const child of children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, "exit");
      child.kill("SIGINT");
      await ended;
    }
    rmSync(folder, { recursive: true });
  };
  try {
    const [database, token] = [await startPostgres(folder, start), randomBytes(24).toString("base64url")];
    await fillDatabase(database, token);
    const checkPort = await choosePort("127.0.0.1", 0, "a port");
    const check = start(process.execPath, [CHECK, String(checkPort), database]);
    if (check.stdout !== null) await once(check.stdout, "data");
    const url = await startNginx(folder, checkPort, token, start);
    const family = () => children.flatMap((child) => (child.pid === undefined ? [] : familyOf(child.pid)));
    return { url, token, stop, cpu: () => family().reduce((sum, pid) => sum + cpuMicroseconds(pid), 0) };
  } catch (error) {
    await stop();
    throw error;
  }
}

type Start = (command: string, args: readonly string[]) => ChildProcess;

async function startPostgres(folder: string, start: Start): Promise<string> {
  const data = join(folder, "pg");
  mkdirSync(data);
  execFileSync("chown", ["postgres:postgres", data]);
  const [command, ...prefix] = AS_POSTGRES;
  const initdb = [`${POSTGRES}/initdb`, "-D", data, "-A", "trust", "-U", "bench", "--no-sync"];
  execFileSync(command, [...prefix, ...initdb], { cwd: "/", stdio: "ignore" });
  const port = await choosePort("127.0.0.1", 0, "a port");
  start(command, [...prefix, `${POSTGRES}/postgres`, "-D", data, "-k", data, "-p", String(port), "-h", "127.0.0.1"]);
  return `postgres://bench@127.0.0.1:${port}/postgres`;
}

async function fillDatabase(connectionString: string, token: string): Promise<void> {
  const client = await until("PostgreSQL answers", 20_000, async () => {
    const dialled = new pg.Client({ connectionString });
    return dialled.connect().then(
      () => dialled,
      () => undefined,
    );
  });
  await client.query(`CREATE TABLE identities (id text PRIMARY KEY, removed_at timestamptz);
    CREATE TABLE tokens (hash text PRIMARY KEY, identity_id text NOT NULL, revoked_at timestamptz);
    INSERT INTO identities SELECT i::text FROM generate_series(1, 10000) AS i;
    INSERT INTO tokens SELECT md5(i::text), i::text FROM generate_series(1, 10000) AS i;`);
  await client.query("INSERT INTO tokens VALUES ($1, '1')", [createHash("sha256").update(token).digest("hex")]);
  await client.query("ANALYZE");
  await client.end();
}

async function startNginx(folder: string, checkPort: number, token: string, start: Start): Promise<string> {
  const port = await choosePort("127.0.0.1", 0, "a port");
  mkdirSync(join(folder, "www"));
  writeFileSync(join(folder, "www", "ok.json"), '{"ok":true}\n');
  const config = `daemon off; user root; worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/error.log;
events {}
http {
  access_log off;
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder}/${name};`).join(" ")}
  upstream check { server 127.0.0.1:${checkPort}; keepalive 32; }
  server {
    listen 127.0.0.1:${port};
    keepalive_requests 1000000;
    root ${folder}/www;
    location / { auth_request /check; try_files /ok.json =404; }
    location = /check {
      internal; proxy_pass http://check/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_pass_request_body off; proxy_set_header Content-Length "";
    }
  }
}
`;
  writeFileSync(join(folder, "nginx.conf"), config);
  start(NGINX, ["-c", join(folder, "nginx.conf"), "-p", folder]);
  const url = `http://127.0.0.1:${port}/`;
  await until("nginx lets the token in", 20_000, async () => {
    const answer = await fetch(url, { headers: { authorization: `Bearer ${token}` } }).catch(() => null);
    return answer?.status === 200 ? true : undefined;
  });
  const refused = await fetch(url, { headers: { authorization: "Bearer wrong" } });
  if (refused.status !== 401) throw new Error(`nginx answered ${refused.status} to a wrong token`);
  return url;
}
