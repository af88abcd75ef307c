import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { buildColoCache, buildEdge } from "../build-edge.ts";
import { SupervisedChild } from "./child.ts";
import { edgeConfig } from "./edge-config.ts";
import type { Home } from "./home.ts";

export interface EdgeOptions {
  readonly home: Home;
  readonly address: string;
  readonly port: number;
  readonly hostNetworks: readonly string[];
  readonly vars: Readonly<Record<string, string>>;
  readonly secrets: Readonly<Record<string, string>>;
  readonly stopTimeoutMs: number;
  readonly onCrash: (detail: string) => void;
}

/** Bundles the Worker and serves it with workerd, Durable Objects on local disk. Resolves when it listens. */
export async function startEdge(options: EdgeOptions): Promise<SupervisedChild> {
  const { home, address, port, secrets } = options;
  await Promise.all([buildEdge(home.edgeBundle), buildColoCache(home.edgeBundle)]);
  const config = edgeConfig({
    listen: `${address}:${port}`,
    storage: home.edgeStorage,
    hostNetworks: options.hostNetworks,
    vars: options.vars,
    secrets: Object.keys(secrets),
  });
  const configFile = join(home.edgeBundle, "workerd.capnp");
  writeFileSync(configFile, config, { mode: 0o600 });
  return new Promise((resolve) => {
    const child = new SupervisedChild({
      name: "edge",
      command: [workerdBinary(), "serve", "--control-fd=3", configFile],
      env: { ...secrets },
      logFile: join(home.logs, "edge.log"),
      controlPipe: true,
      stopTimeoutMs: options.stopTimeoutMs,
      onLine: () => resolve(child),
      onCrash: options.onCrash,
    });
    child.start();
  });
}

/** The executable itself: the package's `bin` is a Node wrapper, which would take the signals meant for workerd. */
function workerdBinary(): string {
  const require = createRequire(import.meta.url);
  const { default: path } = require("workerd") as { default: string };
  return path;
}
