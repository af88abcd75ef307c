import { Hono } from "hono";
import { z } from "zod";
import type { VmRecord } from "../../durable-objects/vm-contract.ts";
import type { Result } from "../../protocol/failures.ts";
import { isVmId } from "../../protocol/ids.ts";
import { recordOperator } from "../audit/record.ts";
import { pageOf, pageQuery } from "../dialects/paging.ts";
import type { Edge, EdgeContext, EdgeHono } from "../edge.ts";
import { requestLimits } from "../http/body.ts";
import { check, readJson } from "../http/input.ts";
import {
  createAccount,
  createApiKey,
  listApiKeys,
  resumeAccount,
  revokeApiKey,
  rotateSigningKeys,
  suspendAccount,
  transferVm,
  voidSigningKeys,
} from "../services/operator.ts";
import { registerVm, unregisterVm } from "../services/registration.ts";
import { answer, done, withName } from "./answer.ts";
import { mountRegionRoutes } from "./region-routes.ts";

const accountBody = z.object({ name: z.string().min(1).max(128) });
const API_KEYS = "/operator/v1/accounts/{accountId}/api-keys";

const VMS = "/operator/v1/accounts/{accountId}/vms";

const registrationBody = z.strictObject({
  vmId: z.string().refine(isVmId, "must be 20 lower-case letters and digits"),
  region: z.string().max(64),
  hostId: z.string().max(32),
  name: z.string().max(128).nullable().default(null),
});
const transferBody = z.object({ accountId: z.string() });

/** What the operator of the deployment does, by the operator's key. `docs/operator-api.md` describes it. */
export function operatorRoutes(): Hono<EdgeHono> {
  const routes = new Hono<EdgeHono>();
  routes.post("/accounts", (c) =>
    answer(c, async (edge) => {
      const body = await readJson(c.req.raw, requestLimits(edge), accountBody);
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
      const body = await readJson(c.req.raw, requestLimits(edge), registrationBody);
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
  routes.post("/accounts/:accountId/suspend", (c) => answer(c, (edge) => standing(edge, c, "suspend", suspendAccount)));
  routes.post("/accounts/:accountId/resume", (c) => answer(c, (edge) => standing(edge, c, "resume", resumeAccount)));
  routes.post("/vms/:vmId/transfer", (c) => answer(c, (edge) => transfer(edge, c)));
  mountRegionRoutes(routes);
  routes.post("/signing-keys/rotate", (c) => answer(c, (edge) => rotateSigningKeys(edge)));
  routes.post("/signing-keys/void", (c) => answer(c, (edge) => voidSigningKeys(edge)));
  return routes;
}

/** Suspends or resumes an account, which its trail says. */
async function standing(
  edge: Edge,
  c: EdgeContext,
  word: string,
  change: (edge: Edge, accountId: string) => Promise<Result<null>>,
): Promise<Result<Record<string, never>>> {
  const accountId = c.req.param("accountId") ?? "";
  return recordOperator(edge, `POST /operator/v1/accounts/{accountId}/${word}`, accountId, await done(change(edge, accountId)));
}

async function transfer(edge: Edge, c: EdgeContext): Promise<Result<VmRecord>> {
  const body = await readJson(c.req.raw, requestLimits(edge), transferBody);
  if (!body.ok) return body;
  const { accountId } = body.value;
  const moved = await transferVm(edge, c.req.param("vmId") ?? "", accountId);
  return recordOperator(edge, "POST /operator/v1/vms/{vmId}/transfer", accountId, moved);
}
