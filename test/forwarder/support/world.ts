import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ForwarderState, openForwarderState } from "../../../forwarder/host-keys.ts";
import { type Forwarder, startForwarder } from "../../../forwarder/server.ts";
import { readForwarderSettings } from "../../../forwarder/settings.ts";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import { newVmId } from "../../../protocol/ids.ts";
import type { VerifierLimits } from "../../../protocol/verifier.ts";
import { createLog } from "../../../service/log.ts";
import { DEFAULT_MEMBERSHIP_TIMES, type MembershipTimes } from "../../../service/membership.ts";
import { type CommandOptions, type Finished, type Running, run, start } from "./command.ts";
import { FakeEdge, type FakeToken } from "./fake-edge.ts";
import { FakeHost } from "./fake-host.ts";
import { type Sshd, startSshd } from "./sshd.ts";

export interface WorldOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly verifierLimits?: VerifierLimits;
  readonly membershipTimes?: Partial<MembershipTimes>;
  /** Host keys and id; the same for every world without it. */
  readonly state?: ForwarderState;
  /** Lines of the VM's sshd_config. */
  readonly sshd?: readonly string[];
}

/** A forwarder in this process between the real OpenSSH commands and a real sshd, with a fake edge and host. */
export class World {
  readonly vmId = newVmId(platformRandomBytes);
  readonly token = "pst_aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbcccccc";
  readonly folder: string;
  readonly edge: FakeEdge;
  readonly host: FakeHost;
  readonly grant: FakeToken;
  readonly log: string[];
  readonly #forwarder: Forwarder;
  readonly #sshd: Sshd;

  constructor(parts: { folder: string; edge: FakeEdge; host: FakeHost; sshd: Sshd; forwarder: Forwarder; log: string[] }) {
    this.folder = parts.folder;
    this.edge = parts.edge;
    this.host = parts.host;
    this.log = parts.log;
    this.#forwarder = parts.forwarder;
    this.#sshd = parts.sshd;
    this.grant = this.edge.addToken(this.token, this.vmId);
  }

  get port(): number {
    return this.#forwarder.port;
  }

  get metricsPort(): number {
    if (this.#forwarder.metricsPort === null) throw new Error("no metrics are served");
    return this.#forwarder.metricsPort;
  }

  get sshdPort(): number {
    return this.#sshd.port;
  }

  /** Options for ssh, scp and sftp alike, with nothing of the caller's own configuration. */
  options(...more: string[]): string[] {
    const fixed = [
      "StrictHostKeyChecking=no",
      `UserKnownHostsFile=${join(this.folder, "known_hosts")}`,
      "GlobalKnownHostsFile=/dev/null",
      "IdentityFile=none",
      "IdentitiesOnly=yes",
      "ConnectTimeout=15",
      ...more,
    ];
    return ["-F", "none", ...fixed.flatMap((option) => ["-o", option])];
  }

  /** Arguments of `ssh` for a user field. */
  ssh(user: string, ...args: string[]): string[] {
    return [...this.options(), "-p", String(this.port), "-l", user, "127.0.0.1", ...args];
  }

  /** Runs a command line in the VM by a token in the user name. */
  exec(command: string, options?: CommandOptions): Promise<Finished> {
    return run("ssh", this.ssh(`${this.vmId}:${this.token}`, command), options);
  }

  startSsh(args: readonly string[], options?: CommandOptions): Running {
    return start("ssh", args, options);
  }

  /** Environment that answers every prompt of ssh with a secret, without a terminal. */
  answering(secret: string): Record<string, string> {
    const script = join(this.folder, "askpass");
    writeFileSync(script, '#!/bin/sh\nprintf "%s\\n" "$POSTERN_TEST_SECRET"\n');
    chmodSync(script, 0o700);
    return { SSH_ASKPASS: script, SSH_ASKPASS_REQUIRE: "force", DISPLAY: ":0", POSTERN_TEST_SECRET: secret };
  }

  stopForwarder(drainMs?: number): Promise<void> {
    return this.#forwarder.stop(drainMs);
  }

  async close(): Promise<void> {
    await this.#forwarder.stop(0);
    await this.host.stop();
    await this.edge.stop();
    await this.#sshd.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

// Making an RSA key takes a second; the keys say nothing about any test.
let keptState: Promise<ForwarderState> | null = null;

function sharedState(): Promise<ForwarderState> {
  keptState ??= makeState();
  return keptState;
}

async function makeState(): Promise<ForwarderState> {
  const folder = mkdtempSync(join(tmpdir(), "postern-keys-"));
  try {
    return await openForwarderState(folder, platformRandomBytes);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export async function openWorld(options: WorldOptions = {}): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), "postern-forwarder-"));
  const sshd = await startSshd(folder, options.sshd);
  const edge = new FakeEdge();
  await edge.start();
  const host = new FakeHost(sshd, edge);
  await host.start();
  const log: string[] = [];
  const forwarder = await startForwarder({
    settings: readForwarderSettings({
      POSTERN_EDGE_URL: edge.url,
      POSTERN_SERVICE_KEY_FILE: "unused",
      POSTERN_FORWARDER_STATE: folder,
      POSTERN_SSH_LISTEN: "127.0.0.1:0",
      POSTERN_CLOSE_LINGER_MS: "1000",
      ...options.env,
    }),
    state: options.state ?? (await sharedState()),
    credential: await edge.desk.credential(),
    version: "test",
    clock: Date.now,
    randomBytes: platformRandomBytes,
    random: Math.random,
    log: createLog((line) => log.push(line)),
    membershipTimes: { ...DEFAULT_MEMBERSHIP_TIMES, heartbeatMs: 100, redialMaxMs: 200, ...options.membershipTimes },
    ...(options.verifierLimits === undefined ? {} : { verifierLimits: options.verifierLimits }),
  });
  edge.sshAddress = `127.0.0.1:${forwarder.port}`;
  return new World({ folder, edge, host, sshd, forwarder, log });
}
