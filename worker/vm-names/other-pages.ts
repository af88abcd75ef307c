/**
 * Whether a page of another origin sent this request, so that the cookie which the browser added to it proves nothing: every VM
 * may serve pages, and all their names are one site to a browser. Following a link is no such request.
 */
export function isFromOtherPage({ headers }: Request, { host }: URL): boolean {
  const origin = headers.get("origin");
  if (origin !== null) return URL.parse(origin)?.host !== host;
  const site = headers.get("sec-fetch-site");
  const isOther = site === "cross-site" || site === "same-site";
  return isOther && headers.get("sec-fetch-mode") !== "navigate";
}
