import { parseArgs } from "node:util";
import { asksForHelp, UsageError } from "../usage.ts";
import { type Destination, parseDestination, readAccess, requestSshAddress } from "./access.ts";

const USAGE = `postern editor-urls <vm>[+<linux user>] [--domain <domain>] [--name <name>]

Prints what opens the VM in VS Code, Cursor, cmux and a terminal. The API comes from POSTERN_API_URL, the access token from
POSTERN_TOKEN_FILE or POSTERN_TOKEN. --domain: the VM is reached as <vm>.<domain>, by wildcard DNS or by ~/.ssh/config (docs/clients.md).
The URLs hold the token: whoever has one can do what the token can.`;

const ACCESS_TOKEN = /^pst_/;
const SSH_PORT = 22;

/** Where editors and tools find a VM's SSH, and what logs in there. */
export interface EditorTarget extends Destination {
  readonly token: string;
  readonly host: string;
  readonly port: number;
  /** What cmux calls the workspace. */
  readonly name: string;
}

/** What opens a VM, by the name of the program that takes it. */
export interface EditorUrls {
  readonly vscode: string;
  readonly cursor: string;
  readonly cmux: string;
  readonly ssh: string;
}

/**
 * The URLs of the document "SSH Access". The token follows a comma, since editors and file tools take what is behind a colon for
 * a port or a path. In the query of cmux's every part is encoded: a bare plus sign there may be read as a space.
 */
export function editorUrls({ vmId, linuxUser, token, host, port, name }: EditorTarget): EditorUrls {
  const user = `${vmId}${linuxUser === null ? "" : `+${linuxUser}`},${token}`;
  const special = port !== SSH_PORT;
  const authority = `ssh-remote+${user}@${host}${special ? `:${port}` : ""}`;
  const query = [`host=${host}`, `user=${encodeURIComponent(user)}`, `name=${encodeURIComponent(name)}`];
  if (special) query.push(`port=${port}`);
  return {
    vscode: `vscode://vscode-remote/${authority}?windowId=_blank`,
    cursor: `cursor://vscode-remote/${authority}?windowId=_blank`,
    cmux: `cmux://ssh?${query.join("&")}`,
    ssh: `ssh ${special ? `-p ${port} ` : ""}${user}@${host}`,
  };
}

/** Prints the URLs for a VM, one a line behind its program's name, once the API has said that the token opens the VM. */
export async function runEditorUrls(args: readonly string[], env: NodeJS.ProcessEnv, print: (line: string) => void): Promise<void> {
  if (asksForHelp(args)) throw new UsageError(USAGE);
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { domain: { type: "string" }, name: { type: "string" } },
  });
  const [target] = positionals;
  if (target === undefined || positionals.length > 1) throw new UsageError(USAGE);
  const access = readAccess(env);
  if (!ACCESS_TOKEN.test(access.credential)) {
    throw new Error("an editor is given an access token, never an API key: set POSTERN_API_URL and POSTERN_TOKEN_FILE");
  }
  const destination = parseDestination(target);
  const answer = await requestSshAddress(access, destination);
  // Editors lower-case what they connect to.
  const address =
    values.domain === undefined ? answer : { host: `${destination.vmId}.${values.domain.toLowerCase()}`, port: SSH_PORT };
  const name = values.name ?? destination.vmId;
  const urls = editorUrls({ ...destination, ...address, token: access.credential, name });
  for (const [program, url] of Object.entries(urls)) print(`${program.padEnd(8)}${url}`);
}
