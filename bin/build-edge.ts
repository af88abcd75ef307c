import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Bundles the Worker into `folder/index.js` exactly as a deploy would (`wrangler deploy --dry-run`). */
export async function buildEdge(folder: string): Promise<void> {
  await promisify(execFile)("wrangler", ["deploy", "--dry-run", "--outdir", folder], {
    cwd: root,
    env: { ...process.env, PATH: `${root}node_modules/.bin:${process.env.PATH}`, WRANGLER_SEND_METRICS: "false", CI: "1" },
  });
}

if (import.meta.main) await buildEdge("dist");
