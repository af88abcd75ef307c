import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { knownHosts, sshConfig } from "../../bin/start/ssh-config.ts";

const POSTERN = fileURLToPath(new URL("../../bin/postern.ts", import.meta.url));

/** What OpenSSH makes of the configuration for a host. */
function understood(text: string, words: readonly string[]): ReadonlyMap<string, string> {
  const folder = mkdtempSync(join(tmpdir(), "postern-config-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "config");
  writeFileSync(file, text);
  const lines = execFileSync("ssh", ["-G", "-F", file, ...words], { encoding: "utf8" })
    .trim()
    .split("\n");
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(" ")), line.slice(line.indexOf(" ") + 1)]));
}

const config = sshConfig({ host: "127.0.0.1", port: 2222, knownHosts: "/home/a person/50%/known_hosts" });

test.each([["vm-ssh.freestyle.sh", "-p", "22"], ["abc.vm-ssh.freestyle.sh"], ["abc.beta-ssh.freestyle.sh"]])(
  "the built-in name %s leads to the ingress, with its host keys and no others",
  (...words) => {
    const read = understood(config, words);
    expect(read.get("proxycommand")).toMatch(/'ssh-relay' '127\.0\.0\.1' '2222'$/);
    expect(read.get("hostkeyalias")).toBe("[127.0.0.1]:2222");
    expect(read.get("userknownhostsfile")).toContain("/home/a person/50%");
    expect(read.get("stricthostkeychecking")).toBe("true");
  },
);

test.each(["github.com", "freestyle.sh", "vm-ssh.freestyle.sh.example.com"])("the name %s is left alone", (name) => {
  const read = understood(config, [name]);
  expect(read.get("proxycommand")).toBeUndefined();
  expect(read.get("hostkeyalias")).toBeUndefined();
});

test("the alias is the name that the known_hosts file has, on any port", () => {
  for (const port of [22, 2222]) {
    const [name] = knownHosts("ssh.example.com", port, ["ssh-ed25519 AAAA"]).split(" ");
    expect(sshConfig({ host: "ssh.example.com", port, knownHosts: "/k" })).toContain(`HostKeyAlias ${name}\n`);
  }
});

test("ssh-relay fails where nobody listens, and with words missing", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  await new Promise((resolve) => server.close(resolve));
  const relay = (...words: string[]) => spawnSync(process.execPath, [POSTERN, "ssh-relay", ...words], { encoding: "utf8" });
  expect(relay("127.0.0.1", String(port))).toMatchObject({ status: 1, stderr: expect.stringContaining("ECONNREFUSED") });
  expect(relay("127.0.0.1")).toMatchObject({ status: 2, stderr: expect.stringContaining("ssh-relay <host> <port>") });
});
