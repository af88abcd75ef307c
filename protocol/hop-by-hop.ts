/** Headers that are about one connection only (RFC 9110 section 7.6.1, with the old ones of RFC 2616 section 13.5.1). */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Says of each header, by its lower-case name, whether it ends at this hop. `connection`: the value of `Connection`. */
export function hopByHop(connection: string | null | undefined): (name: string) => boolean {
  const named = new Set((connection ?? "").split(",").map((name) => name.trim().toLowerCase()));
  return (name) => HOP_BY_HOP.has(name) || named.has(name);
}
