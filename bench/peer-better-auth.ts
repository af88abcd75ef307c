import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { z } from "zod";
import { cpuMicroseconds, findDescendant } from "../test/system/processes.ts";
import { ownApiKey } from "./account.ts";
import { cpuPerRequest, inTurns } from "./cpu.ts";
import type { Benchmark } from "./figure.ts";

const WORKER = fileURLToPath(new URL("peers/better-auth-worker.ts", import.meta.url));

/**
 * CPU time of workerd for one check of an API key: ours (`GET /auth/v1/whoami`, which reads the account's object) against
 * `verifyApiKey` of `better-auth`. The same workerd binary, rounds alternate.
 */
function peerBetterAuth(id: string, store: "d1" | "memory", what: string): Benchmark {
  return {
    id,
    against: `API-key check of better-auth, ${what}`,
    measure: async (system) => {
      const peer = await startPeer();
      try {
        const origin = `${(await peer.ready).origin}/${store}`;
        const { key } = z.object({ key: z.string() }).parse(await (await fetch(`${origin}/key`)).json());
        const ours = { authorization: `Bearer ${await ownApiKey(system)}` };
        // Only miniflare gives workerd its address as an argument.
        const peerPid = findDescendant(process.pid, "--socket-addr");
        const ownPid = findDescendant(system.pid, "workerd");
        const check = () => cpuPerRequest(() => cpuMicroseconds(ownPid), `${system.apiUrl}/auth/v1/whoami`, ours);
        const peerCheck = () => cpuPerRequest(() => cpuMicroseconds(peerPid), `${origin}/check`, { "x-api-key": key });
        return await inTurns(check, peerCheck);
      } finally {
        await peer.dispose();
      }
    },
  };
}

/** As one would run it on Workers. */
export const peerBetterAuthD1 = peerBetterAuth("peer.better_auth_ratio", "d1", "its rows in D1");
/** The least it can cost: its rows are arrays of the isolate, and are lost with it. */
export const peerBetterAuthMemory = peerBetterAuth("peer.better_auth_memory_ratio", "memory", "its rows in the isolate's memory");

async function startPeer(): Promise<Miniflare> {
  const bundle = await build({
    entryPoints: [WORKER],
    bundle: true,
    write: false,
    format: "esm",
    conditions: ["workerd", "worker", "import"],
    external: ["node:*", "cloudflare:*"],
    logLevel: "warning",
  });
  const script = bundle.outputFiles[0]?.text ?? "";
  const compatibility = { compatibilityDate: "2026-10-01", compatibilityFlags: ["nodejs_compat"] };
  return new Miniflare(
    convertV4MiniflareOptions({ modules: true, script, host: "127.0.0.1", d1Databases: ["DB"], ...compatibility }),
  );
}
