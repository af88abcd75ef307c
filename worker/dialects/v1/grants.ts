import { z } from "zod";
import type { GrantRow } from "../../../durable-objects/contract.ts";
import { getGrant, grantVm, listGrants, revokeGrant, updateGrant } from "../../services/grants.ts";
import { accountEndpoint, type Endpoint } from "../endpoint.ts";
import { allowedLinuxUsers, requiredLinuxUsers } from "../linux-users.ts";
import { pageOf, pageQuery } from "../paging.ts";
import { isoTime, mapped, nothing } from "../translate.ts";

const BASE = "/identity/v1/identities/{identityId}/permissions/vm";

const permission = z.object({
  id: z.string(),
  vmId: z.string(),
  identityId: z.string(),
  allowedUsers: z.array(z.string()).nullable(),
  grantedAt: z.string(),
  grantedBy: z.string(),
});

/** What identities may do with VMs (contract section 2.1). */
export const grantEndpoints: readonly Endpoint[] = [
  accountEndpoint({
    method: "post",
    path: `${BASE}/{vmId}`,
    summary: "Grant an identity a VM, as any Linux user or as those listed",
    body: z.strictObject({ allowedUsers: allowedLinuxUsers.optional() }),
    answer: permission,
    handle: async (edge, account, { path, body }) =>
      mapped(await grantVm(edge, account, path, body.allowedUsers ?? null), toPermission),
  }),
  accountEndpoint({
    method: "get",
    path: BASE,
    summary: "List the VMs that an identity was granted",
    query: pageQuery,
    answer: z.object({ permissions: z.array(permission), offset: z.int(), total: z.int() }),
    handle: async (edge, account, { path, query }) => {
      const page = pageOf(query, edge.settings);
      return mapped(await listGrants(edge, account.accountId, path.identityId, page), ({ grants, total }) => ({
        permissions: grants.map(toPermission),
        offset: page.offset,
        total,
      }));
    },
  }),
  accountEndpoint({
    method: "get",
    path: `${BASE}/{vmId}`,
    summary: "Show one grant",
    answer: permission,
    handle: async (edge, account, { path }) => mapped(await getGrant(edge, account.accountId, path), toPermission),
  }),
  accountEndpoint({
    method: "put",
    path: `${BASE}/{vmId}`,
    summary: "Replace the Linux users of a grant; null admits any",
    body: z.strictObject({ allowedUsers: requiredLinuxUsers }),
    answer: permission,
    handle: async (edge, account, { path, body }) =>
      mapped(await updateGrant(edge, account.accountId, path, body.allowedUsers), toPermission),
  }),
  accountEndpoint({
    method: "delete",
    path: `${BASE}/{vmId}`,
    summary: "Revoke a grant",
    answer: nothing,
    handle: async (edge, account, { path }) => mapped(await revokeGrant(edge, account.accountId, path), () => ({})),
  }),
];

function toPermission({ id, vmId, identityId, allowedUsers, grantedAt, grantedBy }: GrantRow): z.output<typeof permission> {
  return {
    id,
    vmId,
    identityId,
    allowedUsers: allowedUsers === null ? null : [...allowedUsers],
    grantedAt: isoTime(grantedAt),
    grantedBy,
  };
}
