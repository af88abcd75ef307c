import { z } from "zod";

/**
 * What a forwarder asks of the edge: `POST /service/v1/ssh-tickets`, its service key as bearer.
 * The answer is `SshTicketAnswer` with 200, or a JSON `Failure` with the status of its `/v5` row, whose `message` may be
 * shown to the person who logs in.
 */
export const sshTicketRequest = z.object({
  vmId: z.string(),
  /** `null`: none was named in the login. */
  linuxUser: z.string().nullable(),
  /** The access token (or API key) that was shown; checked by the edge, never stored by the forwarder. */
  token: z.string().max(256),
  /** The asking forwarder's id; the ticket is bound to it. */
  forwarderId: z.string().regex(/^[a-z2-7]{16}$/),
  /** Where the client came from, for the audit trail. */
  clientAddress: z.string().max(64),
});
export type SshTicketRequest = z.infer<typeof sshTicketRequest>;

export const sshTicketAnswer = z.object({ ticket: z.string() });
/** The ticket's claims say the rest: host URL, Linux user, expiry. */
export type SshTicketAnswer = z.infer<typeof sshTicketAnswer>;
