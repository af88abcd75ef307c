import { isVmId } from "./ids.ts";

/** The port in a guest to which a VM's name leads when its owner mapped none: that of 0.1's create. */
export const DEFAULT_GUEST_PORT = 3000;

/** What a host name below the VM domain names. */
export type VmName =
  /** `<vm-id>`: the port that the owner mapped, or the default; `<vm-id>-<port>`: that port of the guest. */
  | { readonly kind: "vm"; readonly vmId: string; readonly port: number | null }
  /** It is below the domain but cannot be a VM's name. */
  | { readonly kind: "nobody" };

/**
 * Reads a host name, lower-case and without a port, as a VM's name; null when it is not below `domain` (lower-case) at all. An
 * empty `domain`: this deployment gives VMs no names. A dot at the end says that the name is whole (RFC 1034 section 3.1).
 */
export function parseVmName(hostname: string, domain: string): VmName | null {
  const name = hostname.replace(/\.$/, "");
  if (domain === "" || !name.endsWith(`.${domain}`)) return null;
  const label = name.slice(0, -domain.length - 1);
  const [, vmId = "", digits] = /^([a-z0-9]{20})(?:-([1-9]\d{0,4}))?$/.exec(label) ?? [];
  if (!isVmId(vmId)) return { kind: "nobody" };
  const port = digits === undefined ? null : Number(digits);
  return port !== null && port > 65_535 ? { kind: "nobody" } : { kind: "vm", vmId, port };
}

/** Whether VMs may have names below this: a domain name without a dot at its end, or nothing, for no names. */
export function isVmDomain(text: string): boolean {
  return (
    text === "" || (text.length <= 200 && text.split(".").every((label) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(label)))
  );
}

/** The name under which a VM, or one port of it, is reached. */
export function vmHostname(vmId: string, port: number | null, domain: string): string {
  return `${vmId}${port === null ? "" : `-${port}`}.${domain}`;
}
