import { createHash, randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { z } from "zod";
import { choosePort } from "../bin/start/ports.ts";
import { cpuMicroseconds, findDescendant } from "../test/system/processes.ts";
import { ownToken } from "./account.ts";
import { cpuPerRequest, inTurns } from "./cpu.ts";
import type { Benchmark } from "./figure.ts";

const WORKER = fileURLToPath(new URL("peers/oauth-provider-worker.ts", import.meta.url));
const REDIRECT = "https://client.test/callback";

/**
 * CPU time of workerd for one token check: ours (`GET /auth/v1/whoami`, which reads the identity's and the account's object)
 * against that of `@cloudflare/workers-oauth-provider`, whose tokens are in KV. The same workerd binary, miniflare's KV, rounds alternate.
 */
export const peerOauthProvider: Benchmark = {
  id: "peer.oauth_provider_ratio",
  against: "token check of @cloudflare/workers-oauth-provider",
  measure: async (system) => {
    const port = await choosePort("127.0.0.1", 0, "a port");
    const define = { PEER_ORIGIN: JSON.stringify(`http://127.0.0.1:${port}`) };
    const bundle = await build({
      entryPoints: [WORKER],
      bundle: true,
      write: false,
      format: "esm",
      define,
      external: ["cloudflare:*"],
    });
    const script = bundle.outputFiles[0]?.text ?? "";
    const compatibility = {
      compatibilityDate: "2026-10-01",
      compatibilityFlags: ["nodejs_compat", "global_fetch_strictly_public"],
    };
    const options = { modules: true, script, host: "127.0.0.1", port, kvNamespaces: ["OAUTH_KV"], ...compatibility };
    const peer = new Miniflare(convertV4MiniflareOptions(options));
    try {
      const origin = (await peer.ready).origin;
      const theirs = { authorization: `Bearer ${await peerToken(origin)}` };
      const ours = { "x-freestyle-identity-access-token": await ownToken(system) };
      // Only miniflare gives workerd its address as an argument.
      const peerPid = findDescendant(process.pid, "--socket-addr");
      const ownPid = findDescendant(system.pid, "workerd");
      const check = () => cpuPerRequest(() => cpuMicroseconds(ownPid), `${system.apiUrl}/auth/v1/whoami`, ours);
      const peerCheck = () => cpuPerRequest(() => cpuMicroseconds(peerPid), `${origin}/api/check`, theirs);
      return await inTurns(check, peerCheck);
    } finally {
      await peer.dispose();
    }
  },
};

/** An access token by the code flow with PKCE (RFC 7636), as a public client gets one. */
async function peerToken(origin: string): Promise<string> {
  const { clientId } = z.object({ clientId: z.string() }).parse(await (await fetch(`${origin}/client`)).json());
  const verifier = randomBytes(32).toString("base64url");
  const query = new URLSearchParams({
    response_type: "code",
    client_id: clientId,
    redirect_uri: REDIRECT,
    scope: "vm",
    state: "state",
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
  });
  const authorised = await (await fetch(`${origin}/authorize?${query}`)).json();
  const { redirectTo } = z.object({ redirectTo: z.url() }).parse(authorised);
  const body = new URLSearchParams({
    grant_type: "authorization_code",
    code: new URL(redirectTo).searchParams.get("code") ?? "",
    client_id: clientId,
    redirect_uri: REDIRECT,
    code_verifier: verifier,
  });
  const granted = await (await fetch(`${origin}/token`, { method: "POST", body })).json();
  return z.object({ access_token: z.string() }).parse(granted).access_token;
}
