export interface Ready {
  readonly apiUrl: string;
  readonly apiKey: string;
  readonly sshHost: string;
  readonly sshPort: number;
  readonly vmId: string;
  readonly token: string;
  readonly knownHosts: string;
  readonly sshConfig: string;
  readonly devJson: string;
}

/** The `ssh` line for a VM: every part quoted as a shell needs it, the ingress's host key already known. */
export function sshCommand(ready: Ready): string {
  const port = ready.sshPort === 22 ? "" : `-p ${ready.sshPort} `;
  return `ssh -o UserKnownHostsFile='${ready.knownHosts}' ${port}${ready.vmId}:${ready.token}@${ready.sshHost}`;
}

/** What the terminal shows when everything runs: enough to get a shell by pasting one line. */
export function readyScreen(ready: Ready): string {
  return `
Postern is ready.

  Get a shell in the demo VM:

    ${sshCommand(ready)}

  As its Linux user "dev" (in the sudo group): put +dev behind the VM id.

  For the freestyle tools and editor URLs, make this the first line of ~/.ssh/config:

    Include "${ready.sshConfig}"

  API      ${ready.apiUrl}
  API key  ${ready.apiKey}
  SSH      ${ready.sshHost} port ${ready.sshPort}

  These values are also in ${ready.devJson}.
  Ctrl-C stops everything; VMs, accounts and tokens are kept for the next start.
`;
}
