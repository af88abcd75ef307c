import { Hono } from "hono";
import { z } from "zod";
import { type Result, success } from "../../protocol/failures.ts";
import { isVmId } from "../../protocol/ids.ts";
import { recordOperator } from "../audit/record.ts";
import { authenticateOperator } from "../auth/operator.ts";
import { pageOf, pageQuery } from "../dialects/paging.ts";
import type { Edge, EdgeContext, EdgeHono } from "../edge.ts";
import { failureAnswer, jsonAnswer } from "../http/answers.ts";
import { requestLimits } from "../http/body.ts";
import { check, readJson } from "../http/input.ts";
import { limitFailures } from "../limits/rate-limits.ts";
import {
  createAccount,
  createApiKey,
  createServiceKey,
  listApiKeys,
  listHosts,
  revokeApiKey,
  revokeServiceKey,
  rotateSigningKeys,
} from "../services/operator.ts";
import { registerVm, unregisterVm } from "../services/registration.ts";

const accountBody = z.object({ name: z.string().min(1).max(128) });
const API_KEYS = "/operator/v1/accounts/{accountId}/api-keys";

const VMS = "/operator/v1/accounts/{accountId}/vms";

const registrationBody = z.strictObject({
  vmId: z.string().refine(isVmId, "must be 20 lower-case letters and digits"),
  region: z.string().max(64),
  hostId: z.string().max(32),
  name: z.string().max(128).nullable().default(null),
});
const keyBody = z.object({ name: z.string().max(128).nullish() });

/** What the operator of the deployment does, by the operator's key. `docs/operator-api.md` describes it. */
export function operatorRoutes(): Hono<EdgeHono> {
  const routes = new Hono<EdgeHono>();
  routes.post("/accounts", (c) =>
    answer(c, async (edge) => {
      const body = await readJson(c.req.raw, requestLimits(edge.settings), accountBody);
      if (!body.ok) return body;
      const made = await createAccount(edge, body.value.name);
      return made.ok ? recordOperator(edge, "POST /operator/v1/accounts", made.value.accountId, made) : made;
    }),
  );
  routes.post("/accounts/:accountId/api-keys", (c) =>
    answer(c, async (edge) => {
      const accountId = c.req.param("accountId");
      const made = await withName(edge, c, (name) => createApiKey(edge, accountId, name));
      return recordOperator(edge, `POST ${API_KEYS}`, accountId, made);
    }),
  );
  routes.get("/accounts/:accountId/api-keys", (c) =>
    answer(c, async (edge) => {
      const query = check(pageQuery, c.req.query());
      return query.ok ? listApiKeys(edge, c.req.param("accountId"), pageOf(query.value, edge.settings)) : query;
    }),
  );
  routes.delete("/accounts/:accountId/api-keys/:keyId", (c) =>
    answer(c, async (edge) => {
      const accountId = c.req.param("accountId");
      const revoked = await done(revokeApiKey(edge, accountId, c.req.param("keyId")));
      return recordOperator(edge, `DELETE ${API_KEYS}/{keyId}`, accountId, revoked);
    }),
  );
  routes.post("/accounts/:accountId/vms", (c) =>
    answer(c, async (edge) => {
      const accountId = c.req.param("accountId");
      const body = await readJson(c.req.raw, requestLimits(edge.settings), registrationBody);
      const registered = body.ok ? await registerVm(edge, accountId, body.value) : body;
      return recordOperator(edge, `POST ${VMS}`, accountId, registered);
    }),
  );
  routes.delete("/accounts/:accountId/vms/:vmId", (c) =>
    answer(c, async (edge) => {
      const accountId = c.req.param("accountId");
      const gone = await done(unregisterVm(edge, accountId, c.req.param("vmId")));
      return recordOperator(edge, `DELETE ${VMS}/{vmId}`, accountId, gone);
    }),
  );
  routes.post("/regions/:region/service-keys", (c) =>
    answer(c, (edge) => withName(edge, c, (name) => createServiceKey(edge, c.req.param("region"), name))),
  );
  routes.delete("/regions/:region/service-keys/:keyId", (c) =>
    answer(c, (edge) => done(revokeServiceKey(edge, c.req.param("region"), c.req.param("keyId")))),
  );
  routes.get("/regions/:region/hosts", (c) =>
    answer(c, async (edge) => {
      const hosts = await listHosts(edge, c.req.param("region"));
      return hosts.ok ? success({ hosts: hosts.value }) : hosts;
    }),
  );
  routes.post("/signing-keys/rotate", (c) => answer(c, (edge) => rotateSigningKeys(edge)));
  return routes;
}

async function answer(c: EdgeContext, handle: (edge: Edge) => Promise<Result<unknown>>): Promise<Response> {
  const { edge } = c.var;
  const operator = await limitFailures(edge, edge.clientAddress, await authenticateOperator(edge, c.req.raw.headers));
  const result = operator.ok ? await handle(edge) : operator;
  return result.ok ? jsonAnswer(result.value) : failureAnswer(result.failure, "v5", edge.settings);
}

async function withName<T>(edge: Edge, c: EdgeContext, use: (name: string | null) => Promise<Result<T>>): Promise<Result<T>> {
  const body = await readJson(c.req.raw, requestLimits(edge.settings), keyBody);
  return body.ok ? use(body.value.name ?? null) : body;
}

async function done(result: Promise<Result<null>>): Promise<Result<Record<string, never>>> {
  const settled = await result;
  return settled.ok ? success({}) : settled;
}
