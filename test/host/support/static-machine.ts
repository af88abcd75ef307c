import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { sshdAnswers } from "../../../host/sshd-ready.ts";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import { generateSshKeyPair, type SshKeyPair } from "../../../service/ssh-keys.ts";
import { LocalGuest } from "./local-guest.ts";

const KEY_COMMAND = new URL("../../../host/static-machine/fetch-ssh-keys", import.meta.url);

/** A machine that was there before Postern: an sshd that admits the agent's key as root and asks as our files say. */
export class ExistingMachine {
  readonly address: string;
  readonly port: number;
  readonly hostKey: SshKeyPair = generateSshKeyPair(platformRandomBytes);
  readonly #guest: LocalGuest;
  /** Starts the machine when it is called, as a management network would. */
  readonly #waker: Server;
  /** How often it was woken. */
  wakes = 0;

  /** `agentKey`: the public key that the operator put into root's authorized_keys. */
  constructor(agentKey: string, address: string, port: number) {
    this.address = address;
    this.port = port;
    const files = [
      { path: "/etc/ssh/ssh_host_ed25519_key", mode: 0o600, content: this.hostKey.privateKey },
      { path: "/etc/ssh/authorized_keys/root", mode: 0o644, content: `${agentKey}\n` },
    ];
    this.#guest = new LocalGuest({ files }, address, port, () => ({ address: "127.0.0.1", port: 1 }), {
      command: readFileSync(KEY_COMMAND, "utf8"),
      authorizedKeysFile: "/etc/ssh/authorized_keys/%u",
    });
    this.#waker = createServer((_request, response) => {
      this.wakes += 1;
      this.start();
      response.end();
    });
  }

  /** The command that wakes it: program and arguments. */
  async wakeCommand(): Promise<string[]> {
    await new Promise<void>((resolve) => this.#waker.listen(0, "127.0.0.1", resolve));
    const { port } = this.#waker.address() as AddressInfo;
    return ["curl", "--silent", "--fail", "--noproxy", "*", `http://127.0.0.1:${port}/`];
  }

  start(): void {
    this.#guest.start();
  }

  /** Starts it and waits until its sshd answers. */
  async up(): Promise<void> {
    this.start();
    if (!(await sshdAnswers({ host: this.address, port: this.port }, { timeoutMs: 10_000, pollMs: 20 }))) {
      throw new Error("the machine's sshd does not answer");
    }
  }

  /** Power off, without a word. */
  stop(): Promise<void> {
    return this.#guest.stop();
  }

  async close(): Promise<void> {
    this.#waker.close();
    await this.#guest.delete();
  }
}
