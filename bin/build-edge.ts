import { execFile } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Writes the stand-in for a location's cache, `folder/colo-cache.js`. */
export async function buildColoCache(folder: string): Promise<void> {
  await build({ entryPoints: [`${root}bin/start/colo-cache.ts`], outfile: join(folder, "colo-cache.js"), format: "esm" });
}

/** Bundles the Worker into `folder/index.js` exactly as a deploy would (`wrangler deploy --dry-run`). */
export async function buildEdge(folder: string): Promise<void> {
  await promisify(execFile)("wrangler", ["deploy", "--dry-run", "--outdir", folder], {
    cwd: root,
    env: { ...process.env, PATH: `${root}node_modules/.bin:${process.env.PATH}`, WRANGLER_SEND_METRICS: "false", CI: "1" },
  });
}

if (import.meta.main) await buildEdge("dist");
