import { failure, type Result, success } from "../../protocol/failures.ts";
import { type Credential, parseCredential } from "../../protocol/tokens.ts";
import type { Edge } from "../edge.ts";
import { CREDENTIAL_INVALID } from "../masks.ts";
import { macKeysOf } from "./mac-keys.ts";
import { readPresented } from "./presented.ts";

const CREDENTIAL_MISSING = failure(
  "credential-missing",
  "No credential was sent. Send an API key or an access token as `Authorization: Bearer`, or an access token as `X-Freestyle-Identity-Access-Token`.",
);

/**
 * Reads the credential of a request and checks its shape and MAC, without touching storage. Whether it is live is for
 * its object to say. Refuses with `credential-missing` or `credential-invalid`.
 */
export async function authenticate(edge: Edge, headers: Headers): Promise<Result<Credential>> {
  const presented = readPresented(headers);
  if (presented === null) return CREDENTIAL_MISSING;
  const credential = await authenticateText(edge, presented.text);
  if (!credential.ok) return credential;
  if (presented.from === "identity-header" && credential.value.kind !== "access-token") return CREDENTIAL_INVALID;
  return credential;
}

/** The same for a credential that arrived in some other way, such as an SSH login that a forwarder passes on. */
export async function authenticateText(edge: Edge, text: string): Promise<Result<Credential>> {
  const parsed = await parseCredential(text, await macKeysOf(edge.env));
  return parsed.ok ? success(parsed.credential) : CREDENTIAL_INVALID;
}
