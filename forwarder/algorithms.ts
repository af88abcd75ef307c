import type { Algorithms, CipherAlgorithm, KexAlgorithm, MacAlgorithm } from "ssh2";

/**
 * What a stranger may have computed: a millisecond each. The larger groups and curves cost the process tens of them, in which
 * it serves nobody, and no client needs them: RFC 9142 has every one know the last.
 */
const CLIENT_KEX: KexAlgorithm[] = [
  "curve25519-sha256",
  "curve25519-sha256@libssh.org",
  "ecdh-sha2-nistp256",
  "diffie-hellman-group14-sha256",
];
/** A VM's sshd may have been set to larger ones only. */
const TARGET_KEX: KexAlgorithm[] = [
  ...CLIENT_KEX,
  "ecdh-sha2-nistp384",
  "ecdh-sha2-nistp521",
  "diffie-hellman-group16-sha512",
  "diffie-hellman-group18-sha512",
];
const MACS: MacAlgorithm[] = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512"];

/** What a client is offered. No compression: a packet must leave a leg as it came in, and inflating is work that a stranger could order. */
export function clientAlgorithms(ciphers: readonly CipherAlgorithm[]): Algorithms {
  return {
    kex: CLIENT_KEX,
    cipher: [...ciphers],
    hmac: MACS,
    compress: ["none"],
    serverHostKey: ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"],
  };
}

/** What the VM's sshd is offered: the cheapest cipher first, and only the type of host key that is pinned. */
export function targetAlgorithms(hostKeyType: string): Algorithms | null {
  const serverHostKey = HOST_KEY_ALGORITHMS.get(hostKeyType);
  if (serverHostKey === undefined) return null;
  return {
    kex: TARGET_KEX,
    cipher: ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr", "chacha20-poly1305@openssh.com"],
    hmac: MACS,
    compress: ["none"],
    serverHostKey,
  };
}

const HOST_KEY_ALGORITHMS = new Map<string, NonNullable<Extract<Algorithms["serverHostKey"], unknown[]>>>([
  ["ssh-ed25519", ["ssh-ed25519"]],
  ["ecdsa-sha2-nistp256", ["ecdsa-sha2-nistp256"]],
  ["ecdsa-sha2-nistp384", ["ecdsa-sha2-nistp384"]],
  ["ecdsa-sha2-nistp521", ["ecdsa-sha2-nistp521"]],
  ["ssh-rsa", ["rsa-sha2-512", "rsa-sha2-256"]],
]);
