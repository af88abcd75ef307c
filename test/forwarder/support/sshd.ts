import { spawn } from "node:child_process";
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../../service/ssh-keys.ts";
import { freePort } from "../../system/ports.ts";
import { until } from "./command.ts";

/** A real OpenSSH server with a configuration of its own, on a loopback port. */
export interface Sshd {
  readonly port: number;
  /** Its host key line. */
  readonly hostKey: string;
  /** Admits a public key, as the metadata of a VM would. */
  authorise(publicKey: string): void;
  stop(): Promise<void>;
}

export interface SshdProcess extends Sshd {
  /** Of the listening process, which forks for every connection. */
  readonly pid: number;
}

/** By default the VM's side too asks for new keys in the middle of a transfer. */
export async function startSshd(folder: string, more: readonly string[] = ["RekeyLimit 4M"]): Promise<SshdProcess> {
  mkdirSync("/run/sshd", { recursive: true });
  const hostKeyFile = join(folder, "target_host_key");
  const keysFile = join(folder, "authorized_keys");
  const pair = generateSshKeyPair(platformRandomBytes);
  writeFileSync(hostKeyFile, pair.privateKey, { mode: 0o600 });
  writeFileSync(keysFile, "", { mode: 0o600 });
  const port = await freePort();
  const config = join(folder, "sshd_config");
  writeFileSync(
    config,
    [
      `ListenAddress 127.0.0.1:${port}`,
      // Else sshd chooses a port for a forward by what is free on ::1, and goes without 127.0.0.1 where somebody has it there.
      "AddressFamily inet",
      `HostKey ${hostKeyFile}`,
      `AuthorizedKeysFile ${keysFile}`,
      "PidFile none",
      "StrictModes no",
      "UsePAM no",
      "PasswordAuthentication no",
      "KbdInteractiveAuthentication no",
      "PermitRootLogin yes",
      "Subsystem sftp internal-sftp",
      "MaxStartups 200",
      "MaxSessions 100",
      ...more,
      "UseDNS no",
      "PrintMotd no",
      "PrintLastLog no",
      "AllowStreamLocalForwarding yes",
      "",
    ].join("\n"),
  );
  const child = spawn("/usr/sbin/sshd", ["-D", "-e", "-f", config], { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr.on("data", (chunk: Buffer) => {
    log += chunk.toString();
  });
  const closed = new Promise<void>((resolve) => child.on("close", () => resolve()));
  await until(`sshd listens: ${log}`, () => accepts(port));
  if (child.pid === undefined) throw new Error("sshd did not start");
  return {
    pid: child.pid,
    port,
    hostKey: pair.publicKey,
    authorise: (publicKey) => appendFileSync(keysFile, `${publicKey}\n`),
    stop: async () => {
      child.kill("SIGTERM");
      await closed;
    },
  };
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
