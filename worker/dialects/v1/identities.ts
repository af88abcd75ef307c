import { z } from "zod";
import { success } from "../../../protocol/failures.ts";
import { createIdentity, deleteIdentity, listIdentities } from "../../services/identities.ts";
import { createToken, listTokens, revokeToken } from "../../services/tokens.ts";
import { accountEndpoint, type Endpoint } from "../endpoint.ts";
import { flagQuery, pageOf, pageQuery } from "../paging.ts";
import { isoTime, mapped, nothing } from "../translate.ts";

const BASE = "/identity/v1/identities";

const identity = z.object({ id: z.string(), managed: z.boolean() });

const tokenOptions = z.strictObject({
  name: z.string().max(128).nullish(),
  /** The SDKs never send it; ours does. */
  expiresInSeconds: z.int().positive().nullish(),
});

/** Identities and their access tokens (contract section 2.1). */
export const identityEndpoints: readonly Endpoint[] = [
  accountEndpoint({
    method: "post",
    path: BASE,
    summary: "Create an identity",
    answer: identity,
    handle: async (edge, account) =>
      mapped(await createIdentity(edge, account.accountId, false), ({ id, managed }) => ({ id, managed })),
  }),
  accountEndpoint({
    method: "get",
    path: BASE,
    summary: "List identities",
    query: pageQuery.extend({ includeManaged: flagQuery }),
    answer: z.object({ identities: z.array(identity), offset: z.int(), total: z.int() }),
    handle: async (edge, account, { query }) => {
      const page = { ...pageOf(query, edge.settings), includeManaged: query.includeManaged };
      return mapped(await listIdentities(edge, account.accountId, page), ({ identities, total }) => ({
        identities: identities.map(({ id, managed }) => ({ id, managed })),
        offset: page.offset,
        total,
      }));
    },
  }),
  accountEndpoint({
    method: "delete",
    path: `${BASE}/{identityId}`,
    summary: "Delete an identity with its tokens and grants",
    answer: nothing,
    handle: async (edge, account, { path }) => mapped(await deleteIdentity(edge, account.accountId, path.identityId), () => ({})),
  }),
  accountEndpoint({
    method: "post",
    path: `${BASE}/{identityId}/tokens`,
    summary: "Create an access token; it is shown only in this answer",
    body: tokenOptions,
    answer: z.object({ id: z.string(), token: z.string() }),
    handle: async (edge, account, { path, body }) => {
      const options = { name: body.name ?? null, expiresInSeconds: body.expiresInSeconds ?? null };
      const created = await createToken(edge, account.accountId, path.identityId, options);
      return created.ok ? success({ id: created.value.id, token: created.value.token }) : created;
    },
  }),
  accountEndpoint({
    method: "get",
    path: `${BASE}/{identityId}/tokens`,
    summary: "List the access tokens of an identity, without their secrets",
    query: pageQuery,
    answer: z.object({
      tokens: z.array(
        z.object({ id: z.string(), name: z.string().nullable(), createdAt: z.string(), expiresAt: z.string().nullable() }),
      ),
      offset: z.int(),
      total: z.int(),
    }),
    handle: async (edge, account, { path, query }) => {
      const page = pageOf(query, edge.settings);
      return mapped(await listTokens(edge, account.accountId, path.identityId, page), ({ tokens, total }) => ({
        tokens: tokens.map(({ id, name, createdAt, expiresAt }) => ({
          id,
          name,
          createdAt: isoTime(createdAt),
          expiresAt: expiresAt === null ? null : isoTime(expiresAt),
        })),
        offset: page.offset,
        total,
      }));
    },
  }),
  accountEndpoint({
    method: "delete",
    path: `${BASE}/{identityId}/tokens/{tokenId}`,
    summary: "Revoke an access token",
    answer: nothing,
    handle: async (edge, account, { path }) =>
      mapped(await revokeToken(edge, account.accountId, path.identityId, path.tokenId), () => ({})),
  }),
];
