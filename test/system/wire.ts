import { system } from "./fixture.ts";

/** A raw answer, body as text and, when it is JSON, as a value. */
export interface WireAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: Readonly<Record<string, unknown>>;
}

export type Credential = { readonly apiKey: string } | { readonly token: string } | null;

/** One request to the API as a package would send it, for what the packages hide: bytes, headers, statuses. */
export async function wire(
  method: string,
  path: string,
  credential: Credential,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<WireAnswer> {
  const response = await fetch(`${system.apiUrl}${path}`, {
    method,
    headers: {
      ...credentialHeaders(credential),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: parseObject(text) };
}

function credentialHeaders(credential: Credential): Record<string, string> {
  if (credential === null) return {};
  return "apiKey" in credential
    ? { authorization: `Bearer ${credential.apiKey}` }
    : { "x-freestyle-identity-access-token": credential.token };
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
