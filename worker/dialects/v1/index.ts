import type { Endpoint } from "../endpoint.ts";
import { httpLinkEndpoint } from "../http-link.ts";
import { backgroundEndpoints } from "./background.ts";
import { execEndpoints } from "./exec.ts";
import { fileEndpoints } from "./files.ts";
import { grantEndpoints } from "./grants.ts";
import { identityEndpoints } from "./identities.ts";
import { notOfferedEndpoints } from "./not-offered.ts";
import { ptyEndpoints } from "./pty.ts";
import { resizeEndpoints } from "./resize.ts";
import { snapshotEndpoints } from "./snapshots.ts";
import { systemdEndpoints } from "./systemd.ts";
import { terminalEndpoints } from "./terminals.ts";
import { vmEndpoints } from "./vms.ts";
import { watchEndpoints } from "./watch.ts";
import { whoamiEndpoints } from "./whoami.ts";

/**
 * Everything that `freestyle-sandboxes` 0.1.46 and `freestyle` 0.1.63 can call. Snapshots come before VMs, for
 * one of which `/v1/vms/snapshots` would be taken.
 */
export const v1Endpoints: readonly Endpoint[] = [
  ...notOfferedEndpoints,
  ...identityEndpoints,
  ...grantEndpoints,
  ...snapshotEndpoints,
  ...vmEndpoints,
  ...resizeEndpoints,
  ...systemdEndpoints,
  ...execEndpoints,
  ...backgroundEndpoints,
  ...fileEndpoints,
  ...watchEndpoints,
  ...ptyEndpoints,
  ...terminalEndpoints,
  ...whoamiEndpoints,
  httpLinkEndpoint("v1"),
];
