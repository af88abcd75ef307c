import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ssh2 from "ssh2";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openForwarderState } from "../../forwarder/host-keys.ts";
import { readForwarderSettings } from "../../forwarder/settings.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { SettingsError } from "../../service/settings.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "postern-state-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("host keys are made once, survive a restart, and are private to their owner", async () => {
  const state = join(folder, "state");
  const first = await openForwarderState(state, platformRandomBytes);
  const second = await openForwarderState(state, platformRandomBytes);
  expect(second).toEqual(first);
  expect(first.publicHostKeys.map((line) => line.split(" ")[0])).toEqual(["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]);
  for (const name of readdirSync(state)) expect(statSync(join(state, name)).mode & 0o777, name).toBe(0o600);
  expect(ssh2.utils.parseKey(first.hostKeys[0] ?? "")).not.toBeInstanceOf(Error);
});

test.each(["ssh_host_ed25519_key", "ssh_host_ed25519_key.next"])(
  "a damaged %s stops the start instead of being replaced",
  async (name) => {
    writeFileSync(join(folder, name), "damaged");
    await expect(openForwarderState(folder, platformRandomBytes)).rejects.toThrow("damaged");
  },
);

const REQUIRED = { POSTERN_EDGE_URL: "http://edge.test/", POSTERN_SERVICE_KEY_FILE: "key", POSTERN_FORWARDER_STATE: "state" };

test("settings have defaults, and an address to listen on is read in every form", () => {
  const settings = readForwarderSettings(REQUIRED);
  expect(settings.POSTERN_EDGE_URL).toBe("http://edge.test");
  expect(settings.POSTERN_SSH_LISTEN).toEqual({ address: "127.0.0.1", port: 2222 });
  expect(settings.POSTERN_SSH_LOGIN_GRACE_MS).toBe(20_000);
  expect(settings.POSTERN_SSH_MAX_ATTEMPTS).toBe(6);
  const listen = (text: string) => readForwarderSettings({ ...REQUIRED, POSTERN_SSH_LISTEN: text }).POSTERN_SSH_LISTEN;
  expect(listen("[::1]:22")).toEqual({ address: "::1", port: 22 });
  expect(listen(":0")).toEqual({ address: "", port: 0 });
});

test.each([
  ["POSTERN_EDGE_URL", ""],
  ["POSTERN_EDGE_URL", "edge"],
  ["POSTERN_SSH_LISTEN", "2222"],
  ["POSTERN_SSH_LISTEN", "127.0.0.1:99999"],
  ["POSTERN_SSH_MAX_ATTEMPTS", "0"],
  ["POSTERN_SSH_LOGIN_GRACE_MS", "soon"],
  ["POSTERN_SSH_CIPHERS", "3des-cbc"],
  ["POSTERN_SSH_CIPHERS", "aes128-cbc"],
])("%s=%j is refused by name", (name, value) => {
  expect(() => readForwarderSettings({ ...REQUIRED, [name]: value })).toThrow(SettingsError);
  expect(() => readForwarderSettings({ ...REQUIRED, [name]: value })).toThrow(name);
});
