import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { asksForHelp, UsageError } from "../usage.ts";
import { parseDestination, pinnedKeysFile } from "./access.ts";
import { quoteForProxyCommand } from "./streams.ts";

const USAGE = `postern ssh <vm>[+<linux user>] [what ssh takes after the host …]

Opens the system's own ssh to the VM's own sshd: nobody on the way can read it. The key is made for this call.`;

const POSTERN = fileURLToPath(new URL("../postern.ts", import.meta.url));

/** Runs `ssh` end to end and answers its exit status. */
export async function runSsh(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const [target, ...rest] = args;
  if (target === undefined || asksForHelp(args)) throw new UsageError(USAGE);
  const { vmId, linuxUser } = parseDestination(target);
  const user = linuxUser ?? "root";
  const folder = mkdtempSync(join(tmpdir(), "postern-ssh-"));
  try {
    const pair = generateSshKeyPair(platformRandomBytes);
    const keyFile = join(folder, "id_ed25519");
    writeFileSync(keyFile, pair.privateKey, { mode: 0o600 });
    writeFileSync(`${keyFile}.pub`, `${pair.publicKey}\n`);
    const proxy = [process.execPath, POSTERN, "ssh-proxy", "--key", `${keyFile}.pub`, "--user", user, vmId];
    const options = [
      `ProxyCommand=${proxy.map(quoteForProxyCommand).join(" ")}`,
      `UserKnownHostsFile=${pinnedKeysFile(env)}`,
      "StrictHostKeyChecking=yes",
      "UpdateHostKeys=no",
      `IdentityFile=${keyFile}`,
      "IdentitiesOnly=yes",
      "PreferredAuthentications=publickey",
    ];
    const child = spawn("ssh", [...options.flatMap((option) => ["-o", option]), "-l", user, vmId, ...rest], {
      env,
      stdio: "inherit",
    });
    // Ctrl-C is for the command in the VM; ssh ends by itself.
    const ignore = () => undefined;
    process.on("SIGINT", ignore);
    const [code]: unknown[] = await once(child, "exit");
    process.off("SIGINT", ignore);
    return typeof code === "number" ? code : 255;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
