import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { utils } from "ssh2";
import { describe, expect, test } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair, parseSshPublicKey } from "../../service/ssh-keys.ts";

describe("SSH keys", () => {
  test("are ones that OpenSSH reads, with the public half that belongs to the private one", () => {
    const dir = mkdtempSync(join(tmpdir(), "postern-keys-"));
    try {
      const pair = generateSshKeyPair(platformRandomBytes);
      const path = join(dir, "key");
      writeFileSync(path, pair.privateKey, { mode: 0o600 });
      writeFileSync(`${path}.pub`, pair.publicKey);
      expect(execFileSync("ssh-keygen", ["-y", "-f", path]).toString().trim()).toBe(pair.publicKey);
      const shown = execFileSync("ssh-keygen", ["-l", "-f", `${path}.pub`]).toString();
      expect(shown).toContain(parseSshPublicKey(pair.publicKey)?.fingerprint ?? "none");
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  test("are readable every time, which those of the SSH library are not", () => {
    for (let count = 0; count < 1_000; count += 1) {
      const pair = generateSshKeyPair(platformRandomBytes);
      expect(utils.parseKey(pair.privateKey)).not.toBeInstanceOf(Error);
      expect(parseSshPublicKey(pair.publicKey)?.line).toBe(pair.publicKey);
    }
  });

  const good = generateSshKeyPair(platformRandomBytes).publicKey;
  test.each([
    "",
    "ssh-ed25519",
    `${good}\n`,
    `${good}\n${good}`,
    ` ${good}`,
    `${good} comment`,
    `restrict ${good}`,
    good.replace(" ", "  "),
    good.replace("ssh-ed25519", "ssh-rsa"),
    `${good}AAAA`,
    `ssh-ed25519 ${Buffer.alloc(51).toString("base64")}`,
  ])("take no line but a bare ed25519 key: %j", (line) => {
    expect(parseSshPublicKey(line)).toBe(null);
  });
});
