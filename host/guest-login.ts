import { Client } from "ssh2";
import { failure, type Result, success } from "../protocol/failures.ts";
import { parseSshPublicKey, type SshKeyPair } from "../service/ssh-keys.ts";
import type { PublishedKeys } from "./keys.ts";
import type { ManagedMachine, Running } from "./machine.ts";

export interface LoginLimits {
  /** Longest login, in milliseconds. */
  readonly timeoutMs: number;
  /** Between keepalives, in milliseconds. */
  readonly keepaliveMs: number;
}

/** `down`: the guest could not be reached at all, so it is worth asking the driver whether it still runs. */
export type LoginFailure = "down" | "refused" | "host-key";

/**
 * Logs the host in at a guest's sshd as one Linux user. The key is published through metadata only while this runs, and
 * the guest's host key must be the one that was put into the machine when it was made.
 */
export function logIn(
  machine: ManagedMachine,
  running: Running,
  linuxUser: string,
  pair: SshKeyPair,
  keys: PublishedKeys,
  limits: LoginLimits,
): Promise<Result<Client> & { readonly why?: LoginFailure }> {
  const pinned = parseSshPublicKey(machine.hostKey);
  if (pinned === null) throw new Error(`the record of ${machine.vmId} holds no host key`);
  const withdraw = keys.publish(machine.vmId, linuxUser, pair.publicKey);
  const client = new Client();
  let hostKeyMatches = true;
  return new Promise<Result<Client> & { readonly why?: LoginFailure }>((resolve) => {
    const refuse = (why: LoginFailure) => {
      client.destroy();
      resolve({ ...explain(why, linuxUser), why });
    };
    const onDown = () => refuse("down");
    running.down.addEventListener("abort", onDown, { once: true });
    client.on("close", () => running.down.removeEventListener("abort", onDown));
    client.once("ready", () => {
      client.setNoDelay(true);
      resolve(success(client));
    });
    // Stays for the client's whole life: an `error` event without a listener would end the process.
    client.on("error", (error: Error & { level?: string }) => {
      if (!hostKeyMatches) refuse("host-key");
      else refuse(error.level === "client-authentication" ? "refused" : "down");
    });
    client.once("close", () => refuse("down"));
    client.connect({
      host: running.ssh.host,
      port: running.ssh.port,
      username: linuxUser,
      privateKey: pair.privateKey,
      authHandler: ["publickey"],
      readyTimeout: limits.timeoutMs,
      keepaliveInterval: limits.keepaliveMs,
      keepaliveCountMax: 3,
      algorithms: { serverHostKey: ["ssh-ed25519"] },
      hostVerifier: (key: Buffer) => {
        hostKeyMatches = key.equals(pinned.blob);
        return hostKeyMatches;
      },
    });
  }).finally(withdraw);
}

/** Also of a VM that runs and whose `sshd` was ended in it: then only a new start brings it back. */
export const SSHD_UNREACHABLE = failure(
  "host-unavailable",
  "The VM's sshd does not answer. Try again; if it stays so, stop the VM and start it again, which starts its sshd anew.",
);

function explain(why: LoginFailure, linuxUser: string): Result<never> {
  switch (why) {
    case "down":
      return SSHD_UNREACHABLE;
    case "host-key":
      return failure("host-unavailable", "The VM's sshd shows another host key than the VM was made with.");
    case "refused":
      return failure(
        "host-unavailable",
        `The VM's sshd refused the login of '${linuxUser}'. Its AuthorizedKeysCommand must be /usr/local/bin/fetch-ssh-keys.`,
      );
  }
}
