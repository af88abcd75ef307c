import { Hono } from "hono";
import { RegExpRouter } from "hono/router/reg-exp-router";
import { apiDescription, apiPage } from "./api-description.ts";
import { DOCS_PAGE_POLICY } from "./dialects/docs-page.ts";
import { mountEndpoints } from "./dialects/mount.ts";
import { v1Endpoints } from "./dialects/v1/index.ts";
import { v5Endpoints } from "./dialects/v5/index.ts";
import type { Edge, EdgeEnv, EdgeHono } from "./edge.ts";
import { jsonAnswer } from "./http/answers.ts";
import { begin, finish } from "./http/begin.ts";
import { answerPreflights, isPreflight, openToBrowsers } from "./http/cors.ts";
import { answerError, answerUnknown } from "./http/fallbacks.ts";
import { refuseHead } from "./http/head-limit.ts";
import { publicRoutes } from "./http/public-routes.ts";
import { routingPath } from "./http/routing-path.ts";
import { operatorRoutes } from "./operator/routes.ts";
import { serviceRoutes } from "./service-routes/index.ts";
import { serveVmName, visitedName } from "./vm-names/serve.ts";

/** The edge, as the runtime calls it. */
export interface App {
  /** Every route of the API: method and pattern. */
  readonly routes: readonly { readonly method: string; readonly path: string }[];
  fetch(request: Request, env: EdgeEnv, context: ExecutionContext): Promise<Response>;
}

/**
 * The edge. What is done for every request is done around the router, not by its middleware: with one handler a route, Hono calls
 * that and nothing else, which costs a fraction of a chain.
 */
export function createApp(): App {
  const api = createApi();
  return {
    routes: api.routes,
    fetch: async (request, env, context) => {
      const edge = begin(request, env, context);
      const name = visitedName(edge);
      if (name === null) return finish(edge, request, openToBrowsers(edge, await callApi(api, edge, request, context)), "api");
      const { answer, isGuests } = await serveVmName(edge, request, name);
      return finish(edge, request, answer, isGuests ? "guest" : "api");
    },
  };
}

function callApi(api: Hono<EdgeHono>, edge: Edge, request: Request, context: ExecutionContext): Response | Promise<Response> {
  // A preflight of any size is answered: else no page could read that what it asks for is refused, nor why.
  const refused = isPreflight(edge, request) ? null : refuseHead(edge);
  return refused ?? api.fetch(request, edge, context);
}

/** Every route it serves. Paths are matched as they were sent, so an encoded slash stays inside its segment. */
function createApi(): Hono<EdgeHono> {
  const api = new Hono<EdgeHono>({
    router: new RegExpRouter(),
    getPath: (_request, options) => routingPath(edgeOf(options).url.pathname),
  });
  mountEndpoints(api, v1Endpoints, "v1");
  mountEndpoints(api, v5Endpoints, "v5");
  api.route("/service/v1", serviceRoutes());
  api.route("/operator/v1", operatorRoutes());
  api.route("/", publicRoutes());
  api.get("/openapi.json", () => jsonAnswer(apiDescription()));
  api.get("/docs", (c) => c.html(apiPage(), 200, { "content-security-policy": DOCS_PAGE_POLICY }));
  api.notFound(answerUnknown(api.routes));
  answerPreflights(api);
  api.onError((error, c) => answerError(error, c.env));
  return api;
}

/** Hono hands on the bindings with which it was called, which are ours, but does not know their type. */
function edgeOf(options: { readonly env?: unknown } | undefined): Edge {
  return options?.env as Edge;
}
