import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { ApiClient } from "../../bin/operator.ts";
import { type HostAgent, startHostAgent } from "../../host/agent.ts";
import { loadDriver } from "../../host/drivers/load.ts";
import { readHostSettings } from "../../host/settings.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { createLog } from "../../service/log.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { ExistingMachine } from "../host/support/static-machine.ts";
import { keyClient, newAccount, system, type TestAccount, testIdentity, tokenClient } from "../system/fixture.ts";
import { PACKAGE_46 } from "../system/sdk.ts";
import { SshClient } from "../system/ssh-client.ts";

describe("an existing machine of a static host", () => {
  const operator = new ApiClient(system.apiUrl, system.operatorKey);
  const vmId = newVmId(platformRandomBytes);
  let agent: HostAgent;
  let machine: ExistingMachine;
  let account: TestAccount;

  beforeAll(async () => {
    const dir = mkdtempSync(join(tmpdir(), "postern-static-"));
    const pair = generateSshKeyPair(platformRandomBytes);
    writeFileSync(join(dir, "static-key"), pair.privateKey, { mode: 0o600 });
    writeFileSync(join(dir, "static-key.pub"), `${pair.publicKey}\n`);
    writeFileSync(join(dir, "service-key"), system.serviceKey, { mode: 0o600 });
    machine = new ExistingMachine(pair.publicKey, "127.90.0.1", 2022);
    const { address, port, hostKey } = machine;
    const machines = [{ vmId, address, port, hostKey: hostKey.publicKey, wake: await machine.wakeCommand() }];
    writeFileSync(join(dir, "machines.json"), JSON.stringify({ machines }));
    const settings = readHostSettings({
      POSTERN_EDGE_URL: system.apiUrl,
      POSTERN_SERVICE_KEY_FILE: join(dir, "service-key"),
      POSTERN_HOST_STATE: dir,
      POSTERN_DRIVER: "static",
      POSTERN_STATIC_MACHINES: join(dir, "machines.json"),
    });
    const log = createLog(() => undefined);
    const driver = await loadDriver(settings, log);
    agent = await startHostAgent({ settings, driver, log, clock: Date.now, randomBytes: platformRandomBytes });
    account = await newAccount();
    const body = { vmId, region: "local", hostId: agent.id, name: "box" };
    expect(await operator.request("POST", `/operator/v1/accounts/${account.accountId}/vms`, body)).toMatchObject({ vmId });
    return async () => {
      await agent.close();
      await machine.close();
      rmSync(dir, { recursive: true, force: true });
    };
  });

  test("is granted, woken and entered by SDK and SSH as one Linux user, until that is taken back", async () => {
    const owner = keyClient(PACKAGE_46, account.apiKey);
    await owner.vms.ref({ vmId }).exec("useradd --create-home --shell /bin/bash dora");
    const { identity, token } = await testIdentity(owner, [{ vmId, allowedUsers: ["dora"] }]);
    await machine.stop();
    const woken = machine.wakes;
    const dora = tokenClient(PACKAGE_46, token).vms.ref({ vmId }).user({ username: "dora" });
    expect((await dora.exec("whoami")).stdout).toBe("dora\n");
    expect(machine.wakes).toBe(woken + 1);
    const ssh = new SshClient(system);
    onTestFinished(() => ssh.close());
    const shown = await ssh.ssh(`${vmId}+dora:${token}`, "id -un; exit 7");
    expect({ code: shown.code, stdout: shown.stdout.toString() }).toEqual({ code: 7, stdout: "dora\n" });
    expect((await ssh.ssh(`${vmId}+root:${token}`, "id")).code).toBe(255);
    await identity.permissions.vms.revoke({ vmId });
    expect((await ssh.ssh(`${vmId}+dora:${token}`, "id")).code).toBe(255);
    await expect(owner.vms.delete({ vmId })).rejects.toThrow(/existing machine/);
    expect(await operator.request("DELETE", `/operator/v1/accounts/${account.accountId}/vms/${vmId}`)).toEqual({});
    await expect(owner.vms.ref({ vmId }).exec("true")).rejects.toThrow();
  });
});
