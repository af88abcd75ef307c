/** Where a visitor's browser keeps what a signed link says. Over TLS no other name may set it (RFC 6265bis section 4.1.3.2). */
const SECURE_NAME = "__Host-postern-http";
const PLAIN_NAME = "postern-http";

/** More of our cookies than this are somebody's mischief; the rest is not looked at. */
const MAX_COOKIES = 4;

/** `Set-Cookie` of a signed text until `exp` (seconds since 1970 UTC). Scripts cannot read it, and only this one name is sent it. */
export function accessCookie(text: string, exp: number, isSecure: boolean): string {
  const name = isSecure ? `${SECURE_NAME}=${text}; Secure` : `${PLAIN_NAME}=${text}`;
  return `${name}; Path=/; HttpOnly; SameSite=Lax; Expires=${new Date(exp * 1000).toUTCString()}`;
}

/** The signed texts among a request's cookies. */
export function accessCookies(header: string | null): string[] {
  return pairs(header)
    .filter(isOurs)
    .slice(0, MAX_COOKIES)
    .map((pair) => pair.slice(pair.indexOf("=") + 1).trim());
}

/** The other cookies, which are the guest's; null: there are none. */
export function guestCookies(header: string | null): string | null {
  const others = pairs(header).filter((pair) => !isOurs(pair));
  return others.length === 0 ? null : others.join("; ");
}

function pairs(header: string | null): string[] {
  return (header ?? "")
    .split(";")
    .map((pair) => pair.trim())
    .filter((pair) => pair !== "");
}

function isOurs(pair: string): boolean {
  const name = pair.split("=", 1)[0]?.trim();
  return name === SECURE_NAME || name === PLAIN_NAME;
}
