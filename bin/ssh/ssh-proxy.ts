import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { parseSshPublicKey } from "../../service/ssh-keys.ts";
import { asksForHelp, UsageError } from "../usage.ts";
import { parseDestination, pinnedKeysFile, readAccess, requestTicket } from "./access.ts";
import { pinHostKey } from "./pinned-keys.ts";
import { openProxyConnection } from "./proxy-connection.ts";
import { carry, type Streams } from "./streams.ts";

const USAGE = `postern ssh-proxy --key <file.pub> [--user <linux user>] <vm>

For ssh_config's ProxyCommand. The key must be ed25519 and the one that ssh logs in with; the VM's host key is kept in
POSTERN_KNOWN_HOSTS (default ~/.postern/known_hosts) before ssh is told anything. See docs/ssh-end-to-end.md.`;

/** Carries ssh's own bytes between its standard streams and the VM's sshd. */
export async function runSshProxy(args: readonly string[], env: NodeJS.ProcessEnv, streams: Streams): Promise<void> {
  if (asksForHelp(args)) throw new UsageError(USAGE);
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { key: { type: "string" }, user: { type: "string" } },
  });
  const [target] = positionals;
  if (target === undefined || positionals.length > 1 || values.key === undefined) throw new UsageError(USAGE);
  const [type, encoded] = readFileSync(values.key, "utf8").trim().split(/\s+/);
  const publicKey = parseSshPublicKey(`${type} ${encoded}`);
  if (publicKey === null) throw new Error(`${values.key} is not an ed25519 public key`);
  const destination = parseDestination(target);
  const linuxUser = values.user ?? destination.linuxUser;
  const answer = await requestTicket(readAccess(env), { ...destination, linuxUser }, publicKey.line);
  const { socket, hostKey } = await openProxyConnection(answer.host, answer.port, answer.ticket, publicKey.line);
  try {
    pinHostKey(pinnedKeysFile(env), target.toLowerCase(), hostKey);
  } catch (error) {
    socket.destroy();
    throw error;
  }
  await carry(socket, streams);
}
