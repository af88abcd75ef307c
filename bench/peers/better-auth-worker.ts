import { apiKey } from "@better-auth/api-key";
import { type BetterAuthOptions, betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";

interface PeerEnv {
  /** A D1 database. */
  readonly DB: NonNullable<BetterAuthOptions["database"]>;
}

/** A key's check writes when the key was used last, whether its requests are limited or not. Ours are not limited here either. */
const plugins = [apiKey({ rateLimit: { enabled: false } })];

/** One for each store, made by the first request: outside of requests the runtime allows neither random bytes nor I/O. */
const made = new Map<string, ReturnType<typeof make>>();

/** Without a database it keeps its rows in memory by itself. */
function make(store: string, env: PeerEnv) {
  return betterAuth({
    ...(store === "d1" ? { database: env.DB } : {}),
    plugins,
    secret: crypto.randomUUID(),
    baseURL: "https://peer.test",
    emailAndPassword: { enabled: true },
  });
}

function auth(store: string, env: PeerEnv) {
  const known = made.get(store);
  if (known !== undefined) return known;
  const fresh = make(store, env);
  made.set(store, fresh);
  return fresh;
}

export default {
  /** `/<store>/key` makes a user with a key; `/<store>/check` says who the key is, as our own `whoami` does. */
  async fetch(request: Request, env: PeerEnv): Promise<Response> {
    const [, store = "", what] = new URL(request.url).pathname.split("/");
    const { api, options } = auth(store, env);
    if (what === "key") {
      if (store === "d1") await (await getMigrations(options)).runMigrations();
      const { user } = await api.signUpEmail({ body: { name: "bench", email: "bench@peer.test", password: crypto.randomUUID() } });
      return Response.json({ key: (await api.createApiKey({ body: { userId: user.id } })).key });
    }
    const { valid, key } = await api.verifyApiKey({ body: { key: request.headers.get("x-api-key") ?? "" } });
    return valid ? Response.json({ userId: key?.referenceId }) : new Response(null, { status: 401 });
  },
};
