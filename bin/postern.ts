#!/usr/bin/env node
import { messageOf } from "../service/message-of.ts";
import { asksForHelp, UsageError } from "./usage.ts";

const USAGE = `postern <command>

  start            edge, SSH forwarder and one host with real guests on this machine
  reset            forget everything that start kept in POSTERN_HOME
  serve-host       run a host agent        (settings: docs/settings.md)
  serve-forwarder  run an SSH forwarder    (settings: docs/settings.md)
  doctor           look whether this machine can be a host, and say what to do where it cannot
  keys             make and revoke API keys, and what hosts and forwarders enrol with
  ssh              ssh into a VM, end to end (docs/ssh-end-to-end.md)
  ssh-proxy        the same as a ProxyCommand for ssh_config
  editor-urls      what opens a VM in VS Code, Cursor and cmux (docs/clients.md)
  ssh-relay        a ProxyCommand that leads fixed host names to a gateway (docs/clients.md)
  host-keys        show and rotate the SSH forwarder's host keys
  help             this text
`;

/** Each command, loaded only when it is called: a forwarder's machine need not load what a host needs. */
const COMMANDS: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  start: async (args) => {
    refuseArguments(args);
    const { startSystem } = await import("./start/start.ts");
    await startSystem(process.env, stopSignal(), (text) => process.stdout.write(`${text}\n`));
  },
  reset: async (args) => {
    refuseArguments(args);
    const { resetHome } = await import("./reset.ts");
    await resetHome(process.env, (text) => process.stdout.write(`${text}\n`));
  },
  "serve-host": async (args) => {
    refuseArguments(args);
    const { runHost } = await import("../host/main.ts");
    await runHost(process.env);
  },
  "serve-forwarder": async (args) => {
    refuseArguments(args);
    const { runForwarder } = await import("../forwarder/main.ts");
    await runForwarder(process.env);
  },
  doctor: async (args) => {
    refuseArguments(args);
    const { runDoctor } = await import("./doctor/doctor.ts");
    process.exitCode = await runDoctor(process.env, (line) => process.stdout.write(`${line}\n`));
  },
  keys: async (args) => {
    const { runKeys } = await import("./keys.ts");
    await runKeys(args, process.env, (text) => process.stdout.write(`${text}\n`));
  },
  ssh: async (args) => {
    const { runSsh } = await import("./ssh/ssh.ts");
    process.exitCode = await runSsh(args, process.env);
  },
  "ssh-proxy": async (args) => {
    const { runSshProxy } = await import("./ssh/ssh-proxy.ts");
    await runSshProxy(args, process.env, { input: process.stdin, output: process.stdout });
  },
  "editor-urls": async (args) => {
    const { runEditorUrls } = await import("./ssh/editor-urls.ts");
    await runEditorUrls(args, process.env, (line) => process.stdout.write(`${line}\n`));
  },
  "ssh-relay": async (args) => {
    const { runSshRelay } = await import("./ssh/relay.ts");
    await runSshRelay(args, { input: process.stdin, output: process.stdout });
  },
  "host-keys": async (args) => {
    const { runHostKeys } = await import("./host-keys.ts");
    await runHostKeys(args, process.env, (text) => process.stdout.write(`${text}\n`));
  },
  help: async () => {
    process.stdout.write(USAGE);
  },
};

/** For commands whose settings all come from the environment: what else is said was meant for something they do not do. */
function refuseArguments(args: readonly string[]): void {
  if (args.length > 0) throw new UsageError(USAGE);
}

function stopSignal(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => controller.abort());
  return controller.signal;
}

/** Says why the command did nothing, or how it is used where that was the question; answers the exit status. */
function failed(error: unknown): number {
  if (!(error instanceof UsageError)) {
    process.stderr.write(`postern ${name}: ${messageOf(error)}\n`);
    return 1;
  }
  if (asksForHelp(args)) {
    process.stdout.write(`${error.message.trimEnd()}\n`);
    return 0;
  }
  const wrong = args.length === 0 ? "" : `postern ${name} does not take this: ${args.join(" ")}\n\n`;
  process.stderr.write(`${wrong}${error.message.trimEnd()}\n`);
  return 2;
}

const [word = "help", ...args] = process.argv.slice(2);
const name = asksForHelp([word]) ? "help" : word;
const command = COMMANDS[name];
if (command === undefined) {
  process.stderr.write(`postern: there is no command "${name}".\n\n${USAGE}`);
  process.exitCode = 2;
} else {
  try {
    await command(args);
  } catch (error) {
    process.exitCode = failed(error);
  }
  // The command is done; an idle keep-alive connection of its HTTP client must not hold the process for seconds.
  process.exit();
}
