import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { system, tokenClient } from "../system/fixture.ts";
import { takeStock } from "../system/leftovers.ts";
import { until } from "../system/poll.ts";
import { transcriptFile } from "../system/running-system.ts";
import { PACKAGE_46 } from "../system/sdk.ts";
import { sshSetting } from "../system/ssh-fixture.ts";
import { wire } from "../system/wire.ts";

const setting = sshSetting();

/** Anything that is a credential of ours or a signed ticket. */
const SECRET = /p(st|sk|ss)_[a-z2-7]{46}|eyJ[\w-]{20,}\.[\w-]{20,}\.[\w-]{20,}/;

test("no token, key or ticket is ever inside the VM: not in an environment, an argument, or a file", async () => {
  const { ssh, vmId, token, vm } = setting();
  const session = ssh.sshInBackground(`${vmId}:${token}`, "echo live; exec sleep 600");
  try {
    await until("the session is live", 15_000, () => (session.output === "live\n" ? true : undefined));
    await tokenClient(PACKAGE_46, token).vms.ref({ vmId }).fs.writeTextFile("/root/by-token", "written with a token");
    // The bracket keeps the search from finding itself.
    const pattern = "p(st|sk|ss)[_][a-z2-7]{46}|ey[J][A-Za-z0-9_-]{20,}[.][A-Za-z0-9_-]{20,}";
    const places = "/proc/[0-9]*/environ /proc/[0-9]*/cmdline /root /home /etc /tmp /var /run /srv /opt";
    const found = await vm.exec(`grep -rlaE '${pattern}' ${places} 2>/dev/null; true`);
    expect(found).toMatchObject({ stdout: "", statusCode: 0 });
    expect((await vm.exec("curl -s --max-time 5 http://169.254.169.254/latest/")).stdout ?? "").not.toMatch(SECRET);
  } finally {
    await session.kill();
  }
});

test("no token, key or ticket is ever in a log, whatever was accepted or refused", async () => {
  const { ssh, vmId, token, holder } = setting();
  const revoked = await holder.identity.tokens.create();
  await holder.identity.tokens.revoke({ tokenId: revoked.tokenId });
  await ssh.ssh(`${vmId}:${token}`, "true");
  await ssh.ssh(`${vmId}:${revoked.token}`, "true");
  await ssh.ssh(`${vmId}+mallory,${token}`, "true");
  await ssh.ssh(`${token}:${vmId}`, "true");
  await tokenClient(PACKAGE_46, token).vms.ref({ vmId }).exec("true");
  await wire("GET", `/v1/vms/${vmId}?token=${token}`, { token: revoked.token });
  await wire("POST", `/v1/vms/${vmId}/exec-await`, { token }, { command: 1 });

  const logs = filesUnder(join(system.home, "logs"));
  expect(logs.length).toBeGreaterThan(0);
  // The screen of `npm start` shows the demo VM's line and the API key on purpose; they are the only ones there.
  const shown = [system.apiKey, /:(pst_[a-z2-7]{46})@/.exec(readFileSync(transcriptFile(system.home), "utf8"))?.[1] ?? ""];
  for (const file of [...logs, transcriptFile(system.home)]) {
    let text = readFileSync(file, "utf8");
    if (!logs.includes(file)) for (const secret of shown) text = text.replaceAll(secret, "");
    expect(SECRET.exec(text)?.[0], file).toBeUndefined();
    for (const secret of [token, revoked.token, system.apiKey, system.serviceKey, system.operatorKey]) {
      expect(text.includes(secret), file).toBe(false);
    }
  }
});

test("no token, key or ticket is in the arguments or the environment of a process of the system", async () => {
  const { processes } = await takeStock(system.home);
  expect(processes.length).toBeGreaterThan(3);
  for (const process of processes) expect(process).not.toMatch(SECRET);
});

test("files that hold secrets are readable by their owner only", () => {
  const openTo = (name: string) => statSync(join(system.home, name)).mode & 0o077;
  // Others may pass through to the disks of guests, which have users of their own, and read nothing on the way.
  for (const name of [".", "host"]) expect(openTo(name) & ~0o011, name).toBe(0);
  for (const entry of readdirSync(system.home)) if (entry !== "host") expect(openTo(entry), entry).toBe(0);
  expect(openTo(join("host", "service-key.json"))).toBe(0);
});

function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
