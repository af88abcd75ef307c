import type { HeaderSource } from "../http/request-head.ts";

/** Header in which the SDKs send an access token. */
export const IDENTITY_TOKEN_HEADER = "x-freestyle-identity-access-token";

/** A credential as it was shown, not yet looked at. */
export interface Presented {
  readonly text: string;
  /** The dedicated header is for access tokens only; a bearer may be an access token or a key. */
  readonly from: "bearer" | "identity-header";
}

const BEARER_PATTERN = /^bearer +(\S+) *$/i;

/**
 * The credential of a request, or null when none was shown. A bearer wins over the identity header: the SDKs never send
 * both, and 0.1 prefers its API key when it has both. Schemes other than Bearer are not looked at.
 */
export function readPresented(headers: HeaderSource): Presented | null {
  const bearer = BEARER_PATTERN.exec(headers.get("authorization") ?? "")?.[1];
  if (bearer !== undefined) return { text: bearer, from: "bearer" };
  const token = headers.get(IDENTITY_TOKEN_HEADER)?.trim();
  return token === undefined || token === "" ? null : { text: token, from: "identity-header" };
}
