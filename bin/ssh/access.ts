import { homedir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { isVmId } from "../../protocol/ids.ts";
import { isLinuxUser } from "../../protocol/linux-user.ts";
import { readSecretFile } from "../../service/settings.ts";
import { ApiClient } from "../operator.ts";
import { homeFromEnvironment, readDevJson } from "../start/home.ts";

/** Where the API is and what to show it. */
export interface Access {
  readonly apiUrl: string;
  readonly credential: string;
}

/**
 * Reads `POSTERN_API_URL` with `POSTERN_TOKEN_FILE` or `POSTERN_TOKEN`, or without them the system that runs from
 * `POSTERN_HOME`. A token never comes as an argument, which every process of the machine can read.
 */
export function readAccess(env: NodeJS.ProcessEnv): Access {
  const { POSTERN_API_URL: url, POSTERN_TOKEN_FILE: file, POSTERN_TOKEN: token } = env;
  const credential = file === undefined ? token : readSecretFile(file);
  if (url !== undefined && credential !== undefined) return { apiUrl: url.replace(/\/+$/, ""), credential };
  if (url !== undefined || credential !== undefined) {
    throw new Error("set POSTERN_API_URL and either POSTERN_TOKEN_FILE or POSTERN_TOKEN");
  }
  const { apiUrl, apiKey } = readDevJson(homeFromEnvironment(env), "set POSTERN_API_URL and POSTERN_TOKEN_FILE");
  return { apiUrl, credential: apiKey };
}

/** Where host keys of VMs are kept: `POSTERN_KNOWN_HOSTS`, by default in the person's home. */
export function pinnedKeysFile(env: NodeJS.ProcessEnv): string {
  return env.POSTERN_KNOWN_HOSTS ?? join(homedir(), ".postern", "known_hosts");
}

/** A VM as people write it: its id, or a host name whose first label is the id; `+user` may follow the id. */
export interface Destination {
  readonly vmId: string;
  readonly linuxUser: string | null;
}

export function parseDestination(text: string): Destination {
  const [vmId = "", linuxUser = null, ...rest] = (text.split(".")[0] ?? "").split("+");
  if (rest.length > 0 || (linuxUser !== null && !isLinuxUser(linuxUser)))
    throw new Error(`"${text}" names no Linux user: after the + comes one`);
  if (!isVmId(vmId)) throw new Error(`"${text}" names no VM: it must be a VM id, or a host name that begins with one`);
  return { vmId, linuxUser };
}

const ticketAnswer = z.object({ ticket: z.string(), user: z.string(), host: z.string(), port: z.int() });
export type TicketAnswer = z.infer<typeof ticketAnswer>;

/** Where a VM's SSH is, from an API that lets this credential in. Throws `ApiRefusal`. */
export async function requestSshAddress(access: Access, { vmId, linuxUser }: Destination): Promise<{ host: string; port: number }> {
  const client = new ApiClient(access.apiUrl, access.credential);
  const { host, port } = ticketAnswer.parse(await client.request("POST", `/v5/vms/${vmId}/ssh-ticket`, { linuxUser }));
  return { host, port };
}

/** Asks for a ticket that only the holder of `publicKey` may use. Throws `ApiRefusal`. */
export async function requestTicket(access: Access, { vmId, linuxUser }: Destination, publicKey: string): Promise<TicketAnswer> {
  const client = new ApiClient(access.apiUrl, access.credential);
  return ticketAnswer.parse(await client.request("POST", `/v5/vms/${vmId}/ssh-ticket`, { linuxUser, publicKey }));
}
