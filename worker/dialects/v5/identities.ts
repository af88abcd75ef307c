import { z } from "zod";
import { createIdentity, deleteIdentity, describeIdentity, listIdentities } from "../../services/identities.ts";
import { createToken, listTokens, revokeToken } from "../../services/tokens.ts";
import { accountEndpoint, type Endpoint } from "../endpoint.ts";
import { flagQuery, pageOf, pageQuery } from "../paging.ts";
import { isoTime, mapped } from "../translate.ts";

const BASE = "/v5/identities";

const identity = z.object({ id: z.string(), managed: z.boolean() });

const tokenOptions = z.strictObject({
  name: z.string().max(128).nullish(),
  /** The SDK never sends these two; ours does. */
  expiresInSeconds: z.int().positive().nullish(),
});

/** Identities and their access tokens (contract section 2.2). */
export const identityEndpoints: readonly Endpoint[] = [
  accountEndpoint({
    method: "post",
    path: BASE,
    summary: "Create an identity; a managed one cannot be deleted",
    body: z.strictObject({ managed: z.boolean().default(false) }),
    answer: identity,
    handle: async (edge, account, { body }) =>
      mapped(await createIdentity(edge, account.accountId, body.managed), ({ id, managed }) => ({ id, managed })),
  }),
  accountEndpoint({
    method: "get",
    path: BASE,
    summary: "List identities",
    query: pageQuery.extend({ includeManaged: flagQuery }),
    answer: z.object({ identities: z.array(identity), total: z.int() }),
    handle: async (edge, account, { query }) => {
      const page = { ...pageOf(query, edge.settings), includeManaged: query.includeManaged };
      return mapped(await listIdentities(edge, account.accountId, page), ({ identities, total }) => ({
        identities: identities.map(({ id, managed }) => ({ id, managed })),
        total,
      }));
    },
  }),
  accountEndpoint({
    method: "get",
    path: `${BASE}/{identityId}`,
    summary: "Show an identity",
    answer: identity.extend({ accountId: z.string() }),
    handle: async (edge, { accountId }, { path }) =>
      mapped(await describeIdentity(edge, accountId, path.identityId), ({ id, managed }) => ({ id, accountId, managed })),
  }),
  accountEndpoint({
    method: "delete",
    path: `${BASE}/{identityId}`,
    summary: "Delete an identity with its tokens and grants",
    answer: z.void(),
    handle: async (edge, account, { path }) =>
      mapped(await deleteIdentity(edge, account.accountId, path.identityId), () => undefined),
  }),
  accountEndpoint({
    method: "post",
    path: `${BASE}/{identityId}/tokens`,
    summary: "Create an access token; it is shown only in this answer",
    body: tokenOptions,
    answer: z.object({ id: z.string(), token: z.string() }),
    handle: async (edge, account, { path, body }) => {
      const options = { name: body.name ?? null, expiresInSeconds: body.expiresInSeconds ?? null };
      return mapped(await createToken(edge, account.accountId, path.identityId, options), ({ id, token }) => ({ id, token }));
    },
  }),
  accountEndpoint({
    method: "get",
    path: `${BASE}/{identityId}/tokens`,
    summary: "List the access tokens of an identity, without their secrets",
    query: pageQuery,
    answer: z.array(
      z.object({ id: z.string(), name: z.string().nullable(), createdAt: z.string(), expiresAt: z.string().nullable() }),
    ),
    handle: async (edge, account, { path, query }) =>
      mapped(await listTokens(edge, account.accountId, path.identityId, pageOf(query, edge.settings)), ({ tokens }) =>
        tokens.map(({ id, name, createdAt, expiresAt }) => ({
          id,
          name,
          createdAt: isoTime(createdAt),
          expiresAt: expiresAt === null ? null : isoTime(expiresAt),
        })),
      ),
  }),
  accountEndpoint({
    method: "delete",
    path: `${BASE}/{identityId}/tokens/{tokenId}`,
    summary: "Revoke an access token",
    answer: z.void(),
    handle: async (edge, account, { path }) =>
      mapped(await revokeToken(edge, account.accountId, path.identityId, path.tokenId), () => undefined),
  }),
];
