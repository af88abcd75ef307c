import { fileURLToPath } from "node:url";
import { quoteForProxyCommand } from "../ssh/streams.ts";

/** Host names that the clients' command-line tools, and the editors' URLs, have built in. */
const BUILT_IN_HOSTS = "vm-ssh.freestyle.sh *.vm-ssh.freestyle.sh *.beta-ssh.freestyle.sh";

const POSTERN = fileURLToPath(new URL("../postern.ts", import.meta.url));

export interface Ingress {
  readonly host: string;
  readonly port: number;
  /** File with the ingress's host keys. */
  readonly knownHosts: string;
}

/** An ingress as a known_hosts file names it (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). */
export function knownHostsName(host: string, port: number): string {
  return port === 22 ? host : `[${host}]:${port}`;
}

/** The lines of a `known_hosts` file for an ingress, so that its first `ssh` asks nothing and trusts nobody else. */
export function knownHosts(host: string, port: number, keys: readonly string[]): string {
  return keys.map((key) => `${knownHostsName(host, port)} ${key}\n`).join("");
}

/**
 * An ssh_config file that leads the built-in host names to an ingress. A tool that says `-p 22` overrides any `Port`, so the
 * connection is made by a ProxyCommand, which takes no notice of host and port.
 */
export function sshConfig({ host, port, knownHosts: file }: Ingress): string {
  const relay = [process.execPath, POSTERN, "ssh-relay", host, String(port)].map(quoteForProxyCommand).join(" ");
  return `# Leads the host names that the freestyle tools and editors have built in to this Postern. Rewritten at every start.
Host ${BUILT_IN_HOSTS}
  ProxyCommand ${relay}
  HostKeyAlias ${knownHostsName(host, port)}
  UserKnownHostsFile "${file.replaceAll("%", "%%")}"
  StrictHostKeyChecking yes
`;
}
