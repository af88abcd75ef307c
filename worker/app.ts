import { Hono } from "hono";
import { RegExpRouter } from "hono/router/reg-exp-router";
import { apiDescription, apiPage } from "./api-description.ts";
import { DOCS_PAGE_POLICY } from "./dialects/docs-page.ts";
import { mountEndpoints } from "./dialects/mount.ts";
import { v1Endpoints } from "./dialects/v1/index.ts";
import { v5Endpoints } from "./dialects/v5/index.ts";
import type { EdgeHono } from "./edge.ts";
import { jsonAnswer } from "./http/answers.ts";
import { begin } from "./http/begin.ts";
import { openToBrowsers } from "./http/cors.ts";
import { answerError, answerUnknown, refuseOtherMethods } from "./http/fallbacks.ts";
import { limitHead } from "./http/head-limit.ts";
import { publicRoutes } from "./http/public-routes.ts";
import { routingPath } from "./http/routing-path.ts";
import { urlParts } from "./http/url-parts.ts";
import { operatorRoutes } from "./operator/routes.ts";
import { serviceRoutes } from "./service-routes/index.ts";
import { serveVmNames } from "./vm-names/serve.ts";

/** Path prefixes of the dialects, which browsers may call. */
const DIALECT_PATHS = ["/v1/*", "/identity/v1/*", "/auth/v1/*", "/observability/v1/*", "/v5/*"];

/** The edge: every route it serves. Paths are matched as they were sent, so an encoded slash stays inside its segment. */
export function createApp(): Hono<EdgeHono> {
  const app = new Hono<EdgeHono>({
    router: new RegExpRouter(),
    getPath: (request) => routingPath(urlParts(request.url).pathname),
  });
  app.use(begin);
  app.use(serveVmNames);
  for (const path of DIALECT_PATHS) app.use(path, openToBrowsers);
  app.use(limitHead);
  mountEndpoints(app, v1Endpoints, "v1");
  mountEndpoints(app, v5Endpoints, "v5");
  app.route("/service/v1", serviceRoutes());
  app.route("/operator/v1", operatorRoutes());
  app.route("/", publicRoutes());
  app.get("/openapi.json", () => jsonAnswer(apiDescription()));
  app.get("/docs", (c) => c.html(apiPage(), 200, { "content-security-policy": DOCS_PAGE_POLICY }));
  refuseOtherMethods(app);
  app.notFound(answerUnknown);
  app.onError(answerError);
  return app;
}
