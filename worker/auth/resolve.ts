import { failure, type Result, success } from "../../protocol/failures.ts";
import type { Credential } from "../../protocol/tokens.ts";
import type { Edge } from "../edge.ts";
import { CREDENTIAL_INVALID } from "../masks.ts";
import { accountObject, ask, askOne, identityObject } from "../objects.ts";
import type { AccountPrincipal, Principal } from "./principal.ts";

const API_KEY_NEEDED = failure(
  "forbidden",
  "An access token cannot do this: it only operates on VMs that exist and were granted to it. Use an API key, from a server.",
);

/** Asks the credential's object who this is. Refuses with `credential-invalid` whatever the reason. */
export async function resolvePrincipal(edge: Edge, credential: Credential): Promise<Result<Principal>> {
  switch (credential.kind) {
    case "api-key": {
      const standing = await ask(() => accountObject(edge.env, credential.routing).checkKey(credential.secretHash));
      return standing.ok ? success({ kind: "account", ...standing.value }) : standing;
    }
    case "access-token": {
      const { routing, secretHash } = credential;
      const standing = await askOne(routing, edge.settings, () => identityObject(edge.env, routing).checkToken(secretHash));
      if (!standing.ok) return standing;
      const tenancy = await ask(() => accountObject(edge.env, standing.value.accountId).tenancy());
      return tenancy.ok ? success({ kind: "identity", ...standing.value }) : tenancy;
    }
    case "service-key":
      return CREDENTIAL_INVALID;
  }
}

/** The same, for what only an API key may do: a live access token is `forbidden`. */
export async function resolveAccount(edge: Edge, credential: Credential): Promise<Result<AccountPrincipal>> {
  const principal = await resolvePrincipal(edge, credential);
  if (!principal.ok) return principal;
  return principal.value.kind === "account" ? success(principal.value) : API_KEY_NEEDED;
}
