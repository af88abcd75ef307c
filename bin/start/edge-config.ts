import { fileURLToPath } from "node:url";
import { unstable_readConfig } from "wrangler";
import { z } from "zod";

const wranglerToml = fileURLToPath(new URL("../../wrangler.toml", import.meta.url));

/** What is used of wrangler.toml. The reader is marked unstable, so its answer is checked. */
const workerConfig = z.object({
  compatibility_date: z.string(),
  compatibility_flags: z.array(z.string()),
  vars: z.record(z.string(), z.string()),
  durable_objects: z.object({ bindings: z.array(z.object({ name: z.string(), class_name: z.string() })) }),
});

export interface EdgeConfigOptions {
  /** Address and port to listen on, as `host:port`. */
  readonly listen: string;
  /** Folder for Durable Object storage. */
  readonly storage: string;
  /** Networks that hosts are on, in CIDR notation: the edge can reach no other address. */
  readonly hostNetworks: readonly string[];
  /** Values that stand over those of wrangler.toml. */
  readonly vars: Readonly<Record<string, string>>;
  /** Names of secrets; workerd reads their values from its environment. */
  readonly secrets: readonly string[];
}

/**
 * The workerd configuration (Cap'n Proto text) that serves the bundle `index.js` and the cache `colo-cache.js` beside it as
 * Cloudflare would: same
 * bindings, same compatibility date, both read from wrangler.toml. Source: workerd's `workerd.capnp`.
 */
export function edgeConfig(options: EdgeConfigOptions): string {
  const worker = workerConfig.parse(unstable_readConfig({ config: wranglerToml }, { hideWarnings: true }));
  const objects = worker.durable_objects.bindings;
  const vars = { ...worker.vars, ...options.vars };
  const bindings = [
    ...objects.map(({ name, class_name }) => `(name = ${text(name)}, durableObjectNamespace = ${text(class_name)})`),
    ...Object.entries(vars).map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`),
    ...options.secrets.map((name) => `(name = ${text(name)}, fromEnvironment = ${text(name)})`),
  ];
  const namespaces = objects.map(
    ({ class_name }) => `(className = ${text(class_name)}, uniqueKey = ${text(`postern-${class_name}`)}, enableSql = true)`,
  );
  return `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    (name = "colo-cache", worker = .coloCache),
    (name = "hosts", network = (allow = [${options.hostNetworks.map(text).join(", ")}])),
    (name = "storage", disk = (path = ${text(options.storage)}, writable = true)),
  ],
  sockets = [(name = "http", address = ${text(options.listen)}, http = (), service = "edge")],
);

const edge :Workerd.Worker = (
  modules = [(name = "index.js", esModule = embed "index.js")],
  compatibilityDate = ${text(worker.compatibility_date)},
  compatibilityFlags = [${worker.compatibility_flags.map(text).join(", ")}],
  bindings = [
    ${bindings.join(",\n    ")}
  ],
  globalOutbound = "hosts",
  cacheApiOutbound = "colo-cache",
  durableObjectNamespaces = [
    ${namespaces.join(",\n    ")}
  ],
  durableObjectStorage = (localDisk = "storage"),
);

const coloCache :Workerd.Worker = (
  modules = [(name = "colo-cache.js", esModule = embed "colo-cache.js")],
  compatibilityDate = ${text(worker.compatibility_date)},
);
`;
}

/** A Cap'n Proto text literal; its escapes are C's, a superset of JSON's but for the Unicode ones, which are refused. */
function text(value: string): string {
  if (!/^[\x20-\x7e]*$/.test(value))
    throw new Error(`not plain ASCII, so not fit for workerd's configuration: ${JSON.stringify(value)}`);
  return JSON.stringify(value);
}
