import { Hono } from "hono";
import { success } from "../../protocol/failures.ts";
import type { EdgeHono } from "../edge.ts";
import { ask, signingKeysObject } from "../objects.ts";
import { jsonAnswer, serviceFailureAnswer } from "./answers.ts";

/** What needs no credential: the ticket keys, which are public, and whether the edge serves at all and by what clock. */
export function publicRoutes(): Hono<EdgeHono> {
  const routes = new Hono<EdgeHono>();
  routes.get("/healthz", () => jsonAnswer({ ok: true, at: Date.now() }));
  routes.get("/.well-known/jwks.json", async (c) => {
    const edge = c.env;
    const keys = await ask(async () => success(await signingKeysObject(edge.env).jwks()));
    if (!keys.ok) return serviceFailureAnswer(keys.failure, edge.settings);
    return jsonAnswer(keys.value, 200, { "cache-control": `public, max-age=${edge.settings.JWKS_MAX_AGE_S}` });
  });
  return routes;
}
