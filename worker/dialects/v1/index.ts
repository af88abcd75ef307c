import type { Endpoint } from "../endpoint.ts";
import { execEndpoints } from "./exec.ts";
import { fileEndpoints } from "./files.ts";
import { grantEndpoints } from "./grants.ts";
import { identityEndpoints } from "./identities.ts";
import { notOfferedEndpoints } from "./not-offered.ts";
import { vmEndpoints } from "./vms.ts";
import { whoamiEndpoints } from "./whoami.ts";

/**
 * Everything that `freestyle-sandboxes` 0.1.46 and `freestyle` 0.1.63 can call. What is not offered comes first: its
 * `/v1/vms/snapshots` would otherwise be read as a VM's id.
 */
export const v1Endpoints: readonly Endpoint[] = [
  ...notOfferedEndpoints,
  ...identityEndpoints,
  ...grantEndpoints,
  ...vmEndpoints,
  ...execEndpoints,
  ...fileEndpoints,
  ...whoamiEndpoints,
];
