import { z } from "zod";
import { decodeBase64Url, encodeBase64Url } from "./base64url.ts";
import { equalInConstantTime, utf8 } from "./bytes.ts";
import { isVmId } from "./ids.ts";
import type { Subject } from "./subjects.ts";
import type { MacKeys } from "./tokens.ts";

/** The query member that carries a signed link to a VM's name. */
export const LINK_PARAMETER = "postern-link";

/** Keeps a link's MAC from ever being that of something else under the same keys. */
const PURPOSE = "postern-http-link:";

const MAX_LENGTH = 1_024;

const httpLink = z.object({
  vm: z.string().refine(isVmId),
  /** Which of the VM's names it opens: that of this port, or that without a port (null). */
  port: z.int().min(1).max(65535).nullable(),
  /** Whose link it is. It opens nothing that they may not open themselves at that moment. */
  sub: z.custom<Subject>((value) => typeof value === "string" && /^(identity|account):[a-z2-7]{16}$/.test(value)),
  /** Id of the access token or API key that minted it; revoking that ends the link. */
  cred: z.string().max(64),
  /** Seconds since 1970 UTC. */
  exp: z.int().positive(),
});

/** What a signed link to a VM's name says; the cookie that it sets says the same. */
export type HttpLink = z.infer<typeof httpLink>;

/**
 * Signs a link as `<base64url of its JSON>.<base64url of its HMAC-SHA-256>`. Whoever has the text may enter until it expires or
 * its credential is revoked.
 */
export async function signHttpLink(link: HttpLink, keys: MacKeys): Promise<string> {
  const body = encodeBase64Url(utf8(JSON.stringify(link)));
  return `${body}.${await macOf(body, keys[0])}`;
}

/** What a text says if one of `keys` signed it and it has not expired; else null. `now` in milliseconds since 1970 UTC. */
export async function readHttpLink(text: string, keys: MacKeys, now: number): Promise<HttpLink | null> {
  const [body = "", mac = "", ...rest] = text.split(".");
  if (text.length > MAX_LENGTH || body === "" || rest.length > 0) return null;
  for (const key of keys) {
    if (!equalInConstantTime(await macOf(body, key), mac)) continue;
    const bytes = decodeBase64Url(body);
    const link = httpLink.safeParse(bytes === null ? null : JSON.parse(new TextDecoder().decode(bytes)));
    return link.success && link.data.exp * 1000 > now ? link.data : null;
  }
  return null;
}

async function macOf(body: string, key: MacKeys[0]): Promise<string> {
  return encodeBase64Url(new Uint8Array(await crypto.subtle.sign("HMAC", key, utf8(PURPOSE + body))));
}
