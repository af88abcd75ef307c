import { z } from "zod";
import type { GrantRow } from "../../../durable-objects/contract.ts";
import { getGrant, grantVm, listGrants, revokeGrant, updateGrant } from "../../services/grants.ts";
import { accountEndpoint, type Endpoint } from "../endpoint.ts";
import { allowedLinuxUsers, requiredLinuxUsers } from "../linux-users.ts";
import { pageOf, pageQuery } from "../paging.ts";
import { isoTime, mapped } from "../translate.ts";

const BASE = "/v5/identities/{identityId}/permissions/vm";

const permission = z.object({
  id: z.string(),
  identityId: z.string(),
  vmId: z.string(),
  allowedLinuxUsers: z.array(z.string()).nullable(),
  grantedAt: z.string(),
  grantedBy: z.string(),
});

/** What identities may do with VMs, which are named by their id alone (contract section 2.2). */
export const grantEndpoints: readonly Endpoint[] = [
  accountEndpoint({
    method: "post",
    path: BASE,
    summary: "Grant an identity a VM, as any Linux user or as those listed",
    body: z.strictObject({ vmId: z.string(), allowedLinuxUsers: allowedLinuxUsers.optional() }),
    answer: permission,
    handle: async (edge, account, { path, body }) => {
      const key = { identityId: path.identityId, vmId: body.vmId };
      return mapped(await grantVm(edge, account, key, body.allowedLinuxUsers ?? null), toPermission);
    },
  }),
  accountEndpoint({
    method: "get",
    path: BASE,
    summary: "List the VMs that an identity was granted",
    query: pageQuery,
    answer: z.array(permission),
    handle: async (edge, account, { path, query }) =>
      mapped(await listGrants(edge, account.accountId, path.identityId, pageOf(query, edge.settings)), ({ grants }) =>
        grants.map(toPermission),
      ),
  }),
  accountEndpoint({
    method: "get",
    path: `${BASE}/{vmId}`,
    summary: "Show one grant",
    answer: permission,
    handle: async (edge, account, { path }) => mapped(await getGrant(edge, account.accountId, path), toPermission),
  }),
  accountEndpoint({
    method: "patch",
    path: `${BASE}/{vmId}`,
    summary: "Replace the Linux users of a grant; null admits any",
    body: z.strictObject({ allowedLinuxUsers: requiredLinuxUsers }),
    answer: permission,
    handle: async (edge, account, { path, body }) =>
      mapped(await updateGrant(edge, account.accountId, path, body.allowedLinuxUsers), toPermission),
  }),
  accountEndpoint({
    method: "delete",
    path: `${BASE}/{vmId}`,
    summary: "Revoke a grant",
    answer: z.void(),
    handle: async (edge, account, { path }) => mapped(await revokeGrant(edge, account.accountId, path), () => undefined),
  }),
];

function toPermission({ id, identityId, vmId, allowedUsers, grantedAt, grantedBy }: GrantRow): z.output<typeof permission> {
  return {
    id,
    identityId,
    vmId,
    allowedLinuxUsers: allowedUsers === null ? null : [...allowedUsers],
    grantedAt: isoTime(grantedAt),
    grantedBy,
  };
}
