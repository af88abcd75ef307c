import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import ssh2 from "ssh2";
import type { RandomBytes } from "../protocol/bytes.ts";
import { isObjectName, newObjectName } from "../protocol/ids.ts";
import { generateSshKeyPair } from "../service/ssh-keys.ts";

/** What a forwarder keeps across restarts. */
export interface ForwarderState {
  /** Its id in the region: `[a-z2-7]{16}`. */
  readonly id: string;
  /** Private host keys in OpenSSH format, preferred first. A secret. */
  readonly hostKeys: readonly string[];
  /** Their public lines, `<type> <base64>`, as known_hosts has them. */
  readonly publicHostKeys: readonly string[];
}

const makeRsaKey = promisify((done: (error: Error | null, pair?: { private: string }) => void) =>
  ssh2.utils.generateKeyPair("rsa", { bits: 3072 }, done),
);

/**
 * Reads the state folder, making what is missing: once a client has seen a host key, a new one would look like an attack.
 * Files are private to their owner. Throws when the folder cannot be read or written, or a kept key is damaged.
 */
export async function openForwarderState(folder: string, randomBytes: RandomBytes): Promise<ForwarderState> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const id = await keep(join(folder, "forwarder-id"), async () => `${newObjectName(randomBytes)}\n`);
  if (!isObjectName(id.trim())) throw new Error("the forwarder's id file is damaged");
  const hostKeys = [
    await keep(join(folder, "ssh_host_ed25519_key"), async () => generateSshKeyPair(randomBytes).privateKey),
    await keep(join(folder, "ssh_host_ecdsa_key"), async () => ssh2.utils.generateKeyPairSync("ecdsa", { bits: 256 }).private),
    await keep(join(folder, "ssh_host_rsa_key"), async () => {
      const pair = await makeRsaKey();
      if (pair === undefined) throw new Error("no RSA key was made");
      return pair.private;
    }),
  ];
  return { id: id.trim(), hostKeys, publicHostKeys: hostKeys.map(publicLine) };
}

function publicLine(privateKey: string): string {
  const key = ssh2.utils.parseKey(privateKey);
  if (key instanceof Error) throw new Error("a kept host key is damaged", { cause: key });
  return `${key.type} ${key.getPublicSSH().toString("base64")}`;
}

/** The public lines of the host keys (`<type> <base64>`), as a `known_hosts` file holds them. */
export function publicHostKeys(state: ForwarderState): string[] {
  return state.hostKeys.map((text) => {
    const key = ssh2.utils.parseKey(text);
    if (key instanceof Error) throw key;
    return `${key.type} ${key.getPublicSSH().toString("base64")}`;
  });
}

async function keep(path: string, make: () => Promise<string>): Promise<string> {
  if (existsSync(path)) {
    chmodSync(path, 0o600);
    return readFileSync(path, "utf8");
  }
  const content = await make();
  // Written beside and renamed, so that a crash leaves no half a key.
  writeFileSync(`${path}.new`, content, { mode: 0o600 });
  renameSync(`${path}.new`, path);
  return content;
}
