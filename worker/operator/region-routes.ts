import type { Hono } from "hono";
import { z } from "zod";
import { success } from "../../protocol/failures.ts";
import { pageOf, pageQuery } from "../dialects/paging.ts";
import type { EdgeHono } from "../edge.ts";
import { requestLimits } from "../http/body.ts";
import { check, readJson } from "../http/input.ts";
import {
  createJoinToken,
  createServiceKey,
  drainHost,
  listHosts,
  listServices,
  revokeJoinToken,
  revokeService,
  revokeServiceKey,
} from "../services/operator.ts";
import { answer, done, withName } from "./answer.ts";
import { regionMetrics } from "./metrics.ts";

const PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8";

const name = z.string().max(128).nullish();
const joinTokenBody = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("host"),
    hostId: z
      .string()
      .regex(/^[a-z2-7]{16}$/, "must be what the host keeps in its state folder as host-id")
      .nullish(),
    lifeSeconds: z.int().positive().optional(),
    name,
  }),
  z.object({ kind: z.literal("forwarder"), lifeSeconds: z.int().positive().optional(), name }),
]);

const hostBody = z.strictObject({ draining: z.boolean() });

/** A region's hosts and forwarders, and what they enrol with. */
export function mountRegionRoutes(routes: Hono<EdgeHono>): void {
  routes.post("/regions/:region/service-keys", (c) =>
    answer(c, (edge) => withName(edge, c, (keyName) => createServiceKey(edge, c.req.param("region"), keyName))),
  );
  routes.delete("/regions/:region/service-keys/:keyId", (c) =>
    answer(c, (edge) => done(revokeServiceKey(edge, c.req.param("region"), c.req.param("keyId")))),
  );
  routes.post("/regions/:region/join-tokens", (c) =>
    answer(c, async (edge) => {
      const body = await readJson(c.req.raw, requestLimits(edge), joinTokenBody);
      if (!body.ok) return body;
      const { kind, lifeSeconds } = body.value;
      const { JOIN_TOKEN_LIFE_S: usual, JOIN_TOKEN_MAX_LIFE_S: most } = edge.settings;
      return createJoinToken(edge, c.req.param("region"), {
        kind,
        hostId: (body.value.kind === "host" ? body.value.hostId : null) ?? null,
        name: body.value.name ?? null,
        lifeMs: Math.min(lifeSeconds ?? usual, most) * 1000,
      });
    }),
  );
  routes.delete("/regions/:region/join-tokens/:tokenId", (c) =>
    answer(c, (edge) => done(revokeJoinToken(edge, c.req.param("region"), c.req.param("tokenId")))),
  );
  routes.get("/regions/:region/services", (c) =>
    answer(c, async (edge) => {
      const query = check(pageQuery, c.req.query());
      return query.ok ? listServices(edge, c.req.param("region"), pageOf(query.value, edge.settings)) : query;
    }),
  );
  routes.delete("/regions/:region/services/:serviceId", (c) =>
    answer(c, (edge) => done(revokeService(edge, c.req.param("region"), c.req.param("serviceId")))),
  );
  routes.get("/regions/:region/hosts", (c) =>
    answer(c, async (edge) => {
      const hosts = await listHosts(edge, c.req.param("region"));
      return hosts.ok ? success({ hosts: hosts.value }) : hosts;
    }),
  );
  routes.get("/metrics", (c) =>
    answer(c, async (edge) => {
      const text = await regionMetrics(edge);
      return text.ok ? success(new Response(text.value, { headers: { "content-type": PROMETHEUS_TEXT } })) : text;
    }),
  );
  routes.patch("/regions/:region/hosts/:hostId", (c) =>
    answer(c, async (edge) => {
      const body = await readJson(c.req.raw, requestLimits(edge), hostBody);
      if (!body.ok) return body;
      return done(drainHost(edge, c.req.param("region"), c.req.param("hostId"), body.value.draining));
    }),
  );
}
