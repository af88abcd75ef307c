/**
 * The IP address that a request came from, or null where it cannot be known. `header`: the one that the deployment's own
 * proxy sets, if there is such a proxy; the last address in it is the one that the proxy saw.
 */
export function clientAddressOf(request: Request, header: string | undefined): string | null {
  if (header !== undefined && header !== "") return lastAddress(request.headers.get(header));
  // Under workerd the peer of the connection, with its port. There nobody vouches for CF-Connecting-IP.
  const peer: unknown = request.cf?.clientIp;
  if (typeof peer === "string") return peer.replace(/:\d+$/, "").replaceAll(/[[\]]/g, "") || null;
  return lastAddress(request.headers.get("cf-connecting-ip"));
}

/** What of an address is counted: all of IPv4, the /64 of IPv6, which is what one customer has. */
export function addressKey(address: string): string {
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.toLowerCase().split("::");
  const groups = head === "" ? [] : head.split(":");
  // A mapped IPv4 address is one customer's whole.
  if (address.includes(".")) return address;
  const missing = tail === undefined ? 0 : 8 - groups.length - tail.split(":").length;
  const whole = [...groups, ...Array<string>(Math.max(missing, 0)).fill("0"), ...(tail ?? "").split(":")];
  return `${whole
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ""))
    .join(":")}::/64`;
}

function lastAddress(header: string | null): string | null {
  const last = header?.split(",").at(-1)?.trim();
  return last === undefined || last === "" || last.length > 64 ? null : last;
}
