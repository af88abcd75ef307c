import { expect, it } from "vitest";
import { parseHostKeyLine } from "../../forwarder/target.ts";

const line = (type: string, blob: Buffer) => `${type} ${blob.toString("base64")}`;
const blobOf = (type: string, length = Buffer.byteLength(type, "latin1")) => {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(length);
  return Buffer.concat([size, Buffer.from(type, "latin1"), Buffer.alloc(32)]);
};

it("a host key line is taken when its blob begins with its type", () => {
  expect(parseHostKeyLine(line("ssh-ed25519", blobOf("ssh-ed25519")))).toMatchObject({ type: "ssh-ed25519" });
});

it.each([
  ["of another type than its blob", line("ssh-rsa", blobOf("ssh-ed25519"))],
  ["whose blob ends within its type", line("ssh-ed25519", blobOf("ssh-ed25519").subarray(0, 10))],
  ["whose blob says that its type is longer than the blob", line("x", blobOf("x", 5_000).subarray(0, 5))],
  ["whose type is no ASCII", line("\u00c6", blobOf("\u00c6"))],
  ["without a blob", "ssh-ed25519"],
])("a host key line %s is refused", (_what, text) => {
  expect(parseHostKeyLine(text)).toBeNull();
});
