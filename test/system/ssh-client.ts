import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BackgroundCommand, type CommandOptions, type Finished, run } from "./command.ts";
import { PtyCommand } from "./pty.ts";

type Endpoint = { readonly sshHost: string; readonly sshPort: number; readonly home?: string };

/** Host names of the product documents; the configuration file sends them to the system under test. */
const DOCUMENT_HOSTS = "vm-ssh.freestyle.sh *.vm-ssh.freestyle.sh";

/**
 * OpenSSH's own programs with nothing of this machine's user: a folder of its own with configuration and known hosts, no
 * keys, no agent. It knows the host keys that a system published in its home. The port is in the configuration, since ssh, scp and sftp spell it differently.
 */
export class SshClient {
  readonly folder = mkdtempSync(join(tmpdir(), "postern-ssh-"));
  readonly knownHosts = join(this.folder, "known_hosts");
  readonly #config = join(this.folder, "config");
  readonly #host: string;

  /** Only published host keys are good; where none are, whichever comes first is. */
  constructor(endpoint: Endpoint, hostKeyChecking: "accept-new" | "yes" = endpoint.home === undefined ? "accept-new" : "yes") {
    this.#host = endpoint.sshHost;
    if (endpoint.home !== undefined) copyFileSync(join(endpoint.home, "known_hosts"), this.knownHosts);
    this.configure(endpoint, hostKeyChecking);
  }

  /** Rewrites the configuration: after `yes`, only host keys that were seen before are good. */
  configure(endpoint: Endpoint, hostKeyChecking: "accept-new" | "yes"): void {
    writeFileSync(
      this.#config,
      [
        `Host ${DOCUMENT_HOSTS}`,
        `  HostName ${endpoint.sshHost}`,
        "Host *",
        `  Port ${endpoint.sshPort}`,
        `  UserKnownHostsFile ${this.knownHosts}`,
        "  GlobalKnownHostsFile none",
        `  StrictHostKeyChecking ${hostKeyChecking}`,
        "  IdentityFile none",
        "  IdentityAgent none",
        "  ConnectTimeout 15",
        "",
      ].join("\n"),
    );
  }

  /** `ssh` without a terminal and without anybody to ask. */
  ssh(user: string, command: string, options: CommandOptions & { flags?: readonly string[] } = {}): Promise<Finished> {
    return run("ssh", this.#words(user, options.flags, command), { ...options, env: environment() });
  }

  /** The same in the background. */
  sshInBackground(user: string, command: string | null, flags: readonly string[] = []): BackgroundCommand {
    return new BackgroundCommand("ssh", this.#words(user, flags, command), { env: environment() });
  }

  /** `ssh` that is asked for a secret by one method only, once, and has a program answer. */
  sshAnswering(
    user: string,
    secret: string,
    command: string,
    method: "password" | "keyboard-interactive" = "password",
  ): Promise<Finished> {
    const answer = join(this.folder, "answer");
    writeFileSync(answer, '#!/bin/sh\nprintf "%s\\n" "$SECRET"\n', { mode: 0o700 });
    const flags = ["-o", `PreferredAuthentications=${method}`, "-o", "NumberOfPasswordPrompts=1"];
    const env = { ...environment(), SSH_ASKPASS: answer, SSH_ASKPASS_REQUIRE: "force", SECRET: secret };
    return run("ssh", [...this.options, ...flags, `${user}@${this.#host}`, command], { env });
  }

  /** `ssh` typed at a terminal, `-t` and all; asks for passwords. */
  sshOnTerminal(user: string, flags: readonly string[] = [], setup?: string): PtyCommand {
    return new PtyCommand(["ssh", ...this.options, ...flags, `${user}@${this.#host}`], setup);
  }

  /** An `ssh` line as a document prints it, run with this client's configuration. */
  pasted(line: string, command: string): Promise<Finished> {
    const [program, ...words] = line.trim().split(/\s+/);
    if (program !== "ssh") throw new Error(`not an ssh line: ${line}`);
    return run("ssh", [...this.options, "-o", "BatchMode=yes", ...words, command], { env: environment() });
  }

  /** `scp`; `remote` makes a remote name of a path. */
  scp(user: string, words: (remote: (path: string) => string) => readonly string[]): Promise<Finished> {
    const remote = (path: string) => `${user}@${this.#host}:${path}`;
    return run("scp", [...this.options, "-o", "BatchMode=yes", "-q", ...words(remote)], { env: environment() });
  }

  /** `sftp` with a batch of commands. */
  sftp(user: string, batch: readonly string[], options: Pick<CommandOptions, "timeoutMs"> = {}): Promise<Finished> {
    const words = [...this.options, "-q", "-b", "-", `${user}@${this.#host}`];
    return run("sftp", words, { ...options, env: environment(), input: `${batch.join("\n")}\n` });
  }

  /** Words that make any OpenSSH program use this client's configuration. */
  get options(): readonly string[] {
    return ["-F", this.#config];
  }

  /** `user@host` as the programs take it. */
  target(user: string): string {
    return `${user}@${this.#host}`;
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  #words(user: string, flags: readonly string[] = [], command: string | null): readonly string[] {
    return [...this.options, "-o", "BatchMode=yes", ...flags, `${user}@${this.#host}`, ...(command === null ? [] : [command])];
  }
}

/** The environment without an agent or anything else that OpenSSH would pick up. */
function environment(): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, HOME: tmpdir(), LANG: "C.UTF-8" };
}
