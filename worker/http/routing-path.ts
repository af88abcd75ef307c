/** What stands where other paths have the id of a VM. */
const BESIDE_VM_IDS = /^\/v1\/vms\/(?=(?:builds|snapshots)(?:\/|$))/;

/**
 * The path, or pattern of paths, by which a request is routed: no word stands where another route has a parameter. Only such
 * routes fit into one regular expression, which finds one among a hundred in a tenth of the time that a tree of them takes.
 */
export function routingPath(path: string): string {
  return path.replace(BESIDE_VM_IDS, "/v1/beside-vms/");
}
