import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { buildColoCache, buildEdge } from "../../bin/build-edge.ts";
import { ApiClient } from "../../bin/operator.ts";
import { edgeConfig } from "../../bin/start/edge-config.ts";
import { choosePort } from "../../bin/start/ports.ts";
import { sha256Hex } from "../../protocol/bytes.ts";
import { until } from "./poll.ts";

const ADDRESS = "127.0.0.1";
const READY_DEADLINE_MS = 30_000;
/** workerd waits for open sockets to end, and the feed's never do. */
const DRAIN_MS = 1_000;

export interface LocalEdgeOptions {
  readonly folder: string;
  readonly vars?: Readonly<Record<string, string>>;
  /** Puts more into workerd's configuration. */
  readonly configure?: (config: string) => string;
}

/** The edge alone, under plain workerd with its storage on disk: what `npm start` starts, without hosts and forwarders. */
export class LocalEdge {
  readonly url: string;
  readonly operator: ApiClient;
  readonly #file: string;
  /** The configuration as a deployment has it. */
  readonly #config: string;
  readonly #secrets: Readonly<Record<string, string>>;
  #process: ChildProcess | null = null;

  private constructor(url: string, operator: ApiClient, file: string, config: string, secrets: Readonly<Record<string, string>>) {
    this.url = url;
    this.operator = operator;
    this.#file = file;
    this.#config = config;
    this.#secrets = secrets;
  }

  static async start({ folder, vars = {}, configure = (config) => config }: LocalEdgeOptions): Promise<LocalEdge> {
    const storage = join(folder, "storage");
    mkdirSync(storage, { recursive: true });
    await Promise.all([buildEdge(folder), buildColoCache(folder)]);
    const operatorKey = randomBytes(32).toString("base64url");
    const secrets = {
      TOKEN_MAC_KEYS: randomBytes(32).toString("base64url"),
      OPERATOR_KEY_SHA256: await sha256Hex(operatorKey),
    };
    const port = await choosePort(ADDRESS, 0, "PORT");
    const file = join(folder, "workerd.capnp");
    const config = edgeConfig({
      listen: `${ADDRESS}:${port}`,
      storage,
      hostNetworks: ["127.0.0.0/8"],
      vars: { RATE_PRINCIPAL_PER_S: "0", ...vars },
      secrets: Object.keys(secrets),
    });
    const url = `http://${ADDRESS}:${port}`;
    const edge = new LocalEdge(url, new ApiClient(url, operatorKey), file, config, secrets);
    edge.configure(configure);
    await edge.serve();
    return edge;
  }

  get pid(): number {
    if (this.#process?.pid === undefined) throw new Error("the edge does not run");
    return this.#process.pid;
  }

  /** Changes what is served from the next `serve` on; each change is made to the configuration as it was at first. */
  configure(change: (config: string) => string): void {
    writeFileSync(this.#file, change(this.#config));
  }

  /** Serves again after `end`: the same storage, the same port, and the same code unless it was configured anew. */
  async serve(): Promise<void> {
    const { default: workerd } = createRequire(import.meta.url)("workerd") as { default: string };
    this.#process = spawn(workerd, ["serve", this.#file], { env: this.#secrets, stdio: "ignore" });
    await until("the edge answers", READY_DEADLINE_MS, async () => ((await fetch(`${this.url}/healthz`)).ok ? true : undefined));
  }

  /** Ends the process: as a deploy would (SIGTERM, and no patience with sockets that stay) or as a crash would (SIGKILL). */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const child = this.#process;
    if (child === null) return;
    this.#process = null;
    const exit = once(child, "exit");
    child.kill(signal);
    const timer = setTimeout(() => child.kill("SIGKILL"), DRAIN_MS);
    await exit;
    clearTimeout(timer);
  }
}
