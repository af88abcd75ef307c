import { afterAll, beforeAll } from "vitest";
import { deleteVm, keyClient, newAccount, system, type TestIdentity, testIdentity } from "./fixture.ts";
import { PACKAGE_46, type Sdk, type SdkVm } from "./sdk.ts";
import { SshClient } from "./ssh-client.ts";

/** What an SSH test needs: a VM with the Linux users alice and bob, a token that opens it as anybody, and an SSH client. */
export interface SshSetting {
  /** The account's. */
  readonly apiKey: string;
  readonly owner: Sdk;
  readonly vm: SdkVm;
  readonly vmId: string;
  readonly holder: TestIdentity;
  readonly token: string;
  readonly ssh: SshClient;
  /** The user field that logs in as root, in the form that every OpenSSH program takes. */
  readonly root: string;
}

/** Makes the setting once for the file or the `describe` that calls this, and takes it away after. Read it inside tests. */
export function sshSetting(): () => SshSetting {
  let setting: SshSetting | null = null;
  beforeAll(async () => {
    const { apiKey } = await newAccount();
    const owner = keyClient(PACKAGE_46, apiKey);
    const { vm, vmId } = await owner.vms.create({ users: [{ name: "alice" }, { name: "bob" }] });
    const holder = await testIdentity(owner, [{ vmId }]);
    const { token } = holder;
    setting = { apiKey, owner, vm, vmId, holder, token, ssh: new SshClient(system), root: `${vmId},${token}` };
  });
  afterAll(async () => {
    if (setting === null) return;
    setting.ssh.close();
    await deleteVm(setting.owner, setting.vmId);
  });
  return () => {
    if (setting === null) throw new Error("the setting is made before the first test, not while tests are collected");
    return setting;
  };
}
