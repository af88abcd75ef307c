import { expect, test } from "vitest";
import { editorUrls, runEditorUrls } from "../../bin/ssh/editor-urls.ts";
import { decodeEditorUrl } from "../system/editor-url.ts";

const vmId = "abcdefghijklmnopqrst";
const token = `pst_${"a".repeat(46)}`;
const target = { vmId, linuxUser: null, token, host: `${vmId}.vm-ssh.freestyle.sh`, port: 22, name: "my box" };

test("they are the URLs of the document", () => {
  const authority = `ssh-remote+${vmId},${token}@${vmId}.vm-ssh.freestyle.sh`;
  expect(editorUrls(target)).toEqual({
    vscode: `vscode://vscode-remote/${authority}?windowId=_blank`,
    cursor: `cursor://vscode-remote/${authority}?windowId=_blank`,
    cmux: `cmux://ssh?host=${vmId}.vm-ssh.freestyle.sh&user=${vmId}%2C${token}&name=my%20box`,
    ssh: `ssh ${vmId},${token}@${vmId}.vm-ssh.freestyle.sh`,
  });
});

test.each([
  ["the default user and port", {}, `${vmId},${token}`, null],
  ["a Linux user", { linuxUser: "dev-1" }, `${vmId}+dev-1,${token}`, null],
  ["a port of its own", { host: "127.0.0.1", port: 2222 }, `${vmId},${token}`, 2222],
  ["all of it", { linuxUser: "_a", host: "ssh.example.com", port: 2222 }, `${vmId}+_a,${token}`, 2222],
])("an editor decodes exactly what was meant with %s", (_what, changes, user, port) => {
  const meant = { ...target, ...changes };
  const { vscode, cursor, cmux } = editorUrls(meant);
  for (const url of [vscode, cursor, cmux]) expect(decodeEditorUrl(url), url).toEqual({ user, host: meant.host, port });
});

test.each([
  ["no VM", []],
  ["too many words", [vmId, vmId]],
  ["no VM id", ["nonsense"]],
])("%s is told before anything is asked of the API", async (_what, args) => {
  const env = { POSTERN_API_URL: "http://127.0.0.1:1", POSTERN_TOKEN: token };
  await expect(runEditorUrls(args, env, () => undefined)).rejects.toThrow(/editor-urls|names no VM/);
});

test("an API key is never put into a URL", async () => {
  const env = { POSTERN_API_URL: "http://127.0.0.1:1", POSTERN_TOKEN: `psk_${"a".repeat(46)}` };
  await expect(runEditorUrls([vmId], env, () => undefined)).rejects.toThrow("never an API key");
});
