import type { Endpoint } from "../endpoint.ts";
import { httpLinkEndpoint } from "../http-link.ts";
import { auditEndpoints } from "./audit.ts";
import { backgroundEndpoints } from "./background.ts";
import { execEndpoints } from "./exec.ts";
import { fileEndpoints } from "./files.ts";
import { grantEndpoints } from "./grants.ts";
import { identityEndpoints } from "./identities.ts";
import { notOfferedEndpoints } from "./not-offered.ts";
import { ptyEndpoints } from "./pty.ts";
import { resizeEndpoints } from "./resize.ts";
import { snapshotEndpoints } from "./snapshots.ts";
import { sshSessionEndpoints } from "./ssh-sessions.ts";
import { sshTicketEndpoints } from "./ssh-ticket.ts";
import { uploadEndpoints } from "./uploads.ts";
import { vmEndpoints } from "./vms.ts";

/** The `/v5` dialect, which `freestyle` 0.2.17 speaks, as far as it is offered. */
export const v5Endpoints: readonly Endpoint[] = [
  ...notOfferedEndpoints,
  ...identityEndpoints,
  ...grantEndpoints,
  ...vmEndpoints,
  ...resizeEndpoints,
  ...snapshotEndpoints,
  ...execEndpoints,
  ...backgroundEndpoints,
  ...fileEndpoints,
  ...uploadEndpoints,
  ...ptyEndpoints,
  ...sshTicketEndpoints,
  ...sshSessionEndpoints,
  ...auditEndpoints,
  httpLinkEndpoint("v5"),
];
