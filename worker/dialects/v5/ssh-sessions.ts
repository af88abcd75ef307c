import { z } from "zod";
import { closeSshSession, listSshSessions } from "../../services/ssh-sessions.ts";
import { accountEndpoint, type Endpoint } from "../endpoint.ts";
import { isoTime, mapped } from "../translate.ts";

const session = z.object({
  id: z.string(),
  vmId: z.string(),
  linuxUser: z.string(),
  /** `null`: an API key of the account logged in. */
  identityId: z.string().nullable(),
  /** Id of the access token or API key that logged in. */
  credentialId: z.string(),
  clientAddress: z.string(),
  region: z.string(),
  startedAt: z.string(),
});

/** The SSH connections into an account's VMs. */
export const sshSessionEndpoints: readonly Endpoint[] = [
  accountEndpoint({
    method: "get",
    path: "/v5/ssh-sessions",
    summary: "List the SSH connections into the account's VMs",
    answer: z.object({ sessions: z.array(session) }),
    handle: async (edge, account) =>
      mapped(await listSshSessions(edge, account.accountId), (sessions) => ({
        sessions: sessions.map(({ id, vmId, linuxUser, subject, credentialId, address, region, since }) => {
          const [kind, name] = subject.split(":");
          const identityId = kind === "identity" ? name : null;
          return { id, vmId, linuxUser, identityId, credentialId, clientAddress: address, region, startedAt: isoTime(since) };
        }),
      })),
  }),
  accountEndpoint({
    method: "delete",
    path: "/v5/ssh-sessions/{sessionId}",
    summary: "Close an SSH connection",
    answer: z.void(),
    handle: async (edge, account, { path }) =>
      mapped(await closeSshSession(edge, account.accountId, path.sessionId), () => undefined),
  }),
];
