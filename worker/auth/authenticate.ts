import { failure, type Result, success } from "../../protocol/failures.ts";
import { type Credential, type MacKeys, parseCredential } from "../../protocol/tokens.ts";
import { Lru } from "../cache/lru.ts";
import type { Edge } from "../edge.ts";
import type { HeaderSource } from "../http/request-head.ts";
import { CREDENTIAL_INVALID } from "../masks.ts";
import { importedMacKeys, macKeysOf } from "./mac-keys.ts";
import { readPresented } from "./presented.ts";
import { shortHash } from "./short-hash.ts";

const CREDENTIAL_MISSING = failure(
  "credential-missing",
  "No credential was sent. Send an API key or an access token as `Authorization: Bearer`, or an access token as `X-Freestyle-Identity-Access-Token`.",
);

/**
 * Reads the credential of a request and checks its shape and MAC, without touching storage. Whether it is live is for
 * its object to say. Refuses with `credential-missing` or `credential-invalid`.
 */
export async function authenticate(edge: Edge, headers: HeaderSource): Promise<Result<Credential>> {
  const presented = readPresented(headers);
  if (presented === null) return CREDENTIAL_MISSING;
  const credential = await authenticateText(edge, presented.text);
  if (!credential.ok) return credential;
  if (presented.from === "identity-header" && credential.value.kind !== "access-token") return CREDENTIAL_INVALID;
  return credential;
}

/** The same for a credential that arrived in some other way, such as an SSH login that a forwarder passes on. */
export async function authenticateText(edge: Edge, text: string): Promise<Result<Credential>> {
  const keys = importedMacKeys(edge.env) ?? (await macKeysOf(edge.env));
  // Whole texts are told apart by their hash: no credential stays in memory, and how long a look-up takes says nothing.
  const hash = shortHash(text);
  const known = hash === null ? undefined : parsedBy(keys).get(hash);
  if (known !== undefined) return success(known);
  const read = await parseCredential(text, keys);
  if (!read.ok) return CREDENTIAL_INVALID;
  if (hash !== null) parsedBy(keys).set(hash, read.credential, edge.settings.VERDICT_CACHE_ENTRIES);
  return success(read.credential);
}

/** Credentials whose MAC was found right, by the SHA-256 of their text, for as long as the keys of the MAC are these. */
let parsed: { readonly keys: MacKeys; readonly credentials: Lru<Credential> } | null = null;

function parsedBy(keys: MacKeys): Lru<Credential> {
  if (parsed?.keys !== keys) parsed = { keys, credentials: new Lru() };
  return parsed.credentials;
}
