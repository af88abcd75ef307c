import { z } from "zod";
import { success } from "../../../protocol/failures.ts";
import { clientTicket } from "../../services/tickets.ts";
import { type Endpoint, vmEndpoint } from "../endpoint.ts";

const body = z.strictObject({
  linuxUser: z.string().nullish(),
  /** An OpenSSH public key line; only the holder of its private key may then use the ticket. */
  publicKey: z.string().nullish(),
});

/** SSH without showing the access token to the SSH ingress: a single-use ticket as the password. */
export const sshTicketEndpoints: readonly Endpoint[] = [
  vmEndpoint("ssh", {
    method: "post",
    path: "/v5/vms/{vmId}/ssh-ticket",
    summary: "Mint a single-use SSH ticket, to be given as the password",
    body,
    linuxUser: (input) => input.body.linuxUser ?? null,
    answer: z.object({
      ticket: z.string(),
      expiresAt: z.string(),
      user: z.string(),
      host: z.string(),
      port: z.int(),
      command: z.string(),
    }),
    handle: async (edge, authority, input) => {
      const minted = await clientTicket(edge, authority, input.body.publicKey ?? null);
      if (!minted.ok) return minted;
      const { ticket, expiresAt, user } = minted.value;
      const { SSH_HOST: host, SSH_PORT: port } = edge.env;
      const command = `ssh -p ${port} ${user}@${host}`;
      return success({ ticket, expiresAt: new Date(expiresAt).toISOString(), user, host, port: Number(port), command });
    },
  }),
];
