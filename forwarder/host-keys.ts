import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import ssh2 from "ssh2";
import type { RandomBytes } from "../protocol/bytes.ts";
import { generateSshKeyPair } from "../service/ssh-keys.ts";
import { type HostCertificate, parseHostCertificate } from "./host-certificate.ts";

/** What a forwarder keeps across restarts. */
export interface ForwarderState {
  /** Private host keys in OpenSSH format, preferred first. A secret. */
  readonly hostKeys: readonly string[];
  /** Their public lines, `<type> <base64>`, as known_hosts has them. */
  readonly publicHostKeys: readonly string[];
  /** The keys that a rotation will put in use, known to clients beforehand. A secret. */
  readonly nextHostKeys: readonly string[];
  readonly nextPublicHostKeys: readonly string[];
  /** Certificates for keys in use, where the operator has put one beside the key. */
  readonly certificates: readonly HostCertificate[];
}

type MakeKey = (randomBytes: RandomBytes) => Promise<string>;

const makeRsaKey = promisify((done: (error: Error | null, pair?: { private: string }) => void) =>
  ssh2.utils.generateKeyPair("rsa", { bits: 3072 }, done),
);

const KEYS: ReadonlyMap<string, MakeKey> = new Map([
  ["ssh_host_ed25519_key", async (randomBytes: RandomBytes) => generateSshKeyPair(randomBytes).privateKey],
  ["ssh_host_ecdsa_key", async () => ssh2.utils.generateKeyPairSync("ecdsa", { bits: 256 }).private],
  [
    "ssh_host_rsa_key",
    async () => {
      const pair = await makeRsaKey();
      if (pair === undefined) throw new Error("no RSA key was made");
      return pair.private;
    },
  ],
]);

const next = (name: string) => `${name}.next`;
const certificateOf = (name: string) => `${name}-cert.pub`;

/**
 * Reads the state folder, making what is missing: once a client has seen a host key, a new one would look like an attack.
 * Files are private to their owner. Throws when the folder cannot be read or written, or a kept key is damaged.
 */
export async function openForwarderState(folder: string, randomBytes: RandomBytes): Promise<ForwarderState> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const hostKeys: string[] = [];
  const nextHostKeys: string[] = [];
  const certificates: HostCertificate[] = [];
  for (const [name, make] of KEYS) {
    const key = await keep(join(folder, name), () => make(randomBytes));
    hostKeys.push(key);
    nextHostKeys.push(await keep(join(folder, next(name)), () => make(randomBytes)));
    const certificate = readCertificate(join(folder, certificateOf(name)), key);
    if (certificate !== null) certificates.push(certificate);
  }
  return {
    hostKeys,
    publicHostKeys: hostKeys.map(publicLine),
    nextHostKeys,
    nextPublicHostKeys: nextHostKeys.map(publicLine),
    certificates,
  };
}

/**
 * Puts the next keys in use, with their certificates, and makes new next ones. Clients that have connected since the
 * last rotation know them already. A running forwarder goes on with its keys until it is restarted.
 */
export async function rotateHostKeys(folder: string, randomBytes: RandomBytes): Promise<ForwarderState> {
  await openForwarderState(folder, randomBytes);
  for (const name of KEYS.keys()) {
    rmSync(join(folder, certificateOf(name)), { force: true });
    renameSync(join(folder, next(name)), join(folder, name));
    const certificate = join(folder, certificateOf(next(name)));
    if (existsSync(certificate)) renameSync(certificate, join(folder, certificateOf(name)));
  }
  return openForwarderState(folder, randomBytes);
}

function publicLine(privateKey: string): string {
  const key = parse(privateKey);
  return `${key.type} ${key.getPublicSSH().toString("base64")}`;
}

function readCertificate(path: string, privateKey: string): HostCertificate | null {
  if (!existsSync(path)) return null;
  const key = parse(privateKey);
  const certificate = parseHostCertificate(readFileSync(path, "utf8"), key.type, key.getPublicSSH());
  if (certificate === null) throw new Error(`${path} is no certificate for the host key beside it`);
  return certificate;
}

function parse(privateKey: string): ssh2.ParsedKey {
  const key = ssh2.utils.parseKey(privateKey);
  if (key instanceof Error) throw new Error("a kept host key is damaged", { cause: key });
  return key;
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
