import type { Endpoint } from "../endpoint.ts";
import { sshTicketEndpoints } from "./ssh-ticket.ts";

/** The `/v5` dialect, as far as it is offered. */
export const v5Endpoints: readonly Endpoint[] = [...sshTicketEndpoints];
