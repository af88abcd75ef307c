import { vmHostname } from "../../protocol/vm-names.ts";
import type { Edge } from "../edge.ts";

/** The names under which a VM is reached over HTTP, as 0.1 shows them; none where the deployment gives VMs no names. */
export function domainsOf({ env }: Edge, vmId: string): string[] {
  const { VM_DOMAIN: domain = "" } = env;
  return domain === "" ? [] : [vmHostname(vmId, null, domain)];
}
