import { once } from "node:events";
import ssh2 from "ssh2";
import { afterEach, expect, test } from "vitest";
import { forgetKey, settle } from "../../forwarder/ssh2-after-login.ts";
import { proofContext, rekey } from "../../forwarder/ssh2-handshake.ts";
import { Ssh2Moved } from "../../forwarder/ssh2-moved.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { connectPair, type Pair } from "./support/ssh2-pair.ts";

const pairs: Pair[] = [];
afterEach(() => {
  for (const pair of pairs.splice(0)) pair.close();
});

async function open(algorithms: ssh2.Algorithms = {}): Promise<Pair> {
  const pair = await connectPair(algorithms);
  pairs.push(pair);
  return pair;
}

function privateOf(connection: object): { _kex: object; _offer: object } {
  return Reflect.get(connection, "_protocol") as { _kex: object; _offer: object };
}

test("a settled connection has forgotten its key exchange, and goes through more of them, from either side", async () => {
  const pair = await open();
  const { sessionId } = proofContext(pair.serverSsh);
  settle(pair.serverSsh, null);
  settle(pair.clientSsh, "test");
  for (const [round, begins] of [pair.serverSsh, pair.clientSsh, pair.serverSsh].entries()) {
    const ended = Promise.all([once(pair.clientSsh, "handshake"), once(pair.serverSsh, "handshake")]);
    rekey(begins);
    await ended;
    await new Promise((resolve) => setImmediate(resolve));
    for (const end of [pair.serverSsh, pair.clientSsh]) {
      expect(Object.keys(privateOf(end)._kex).sort()).toEqual(["negotiated", "remoteExtInfoEnabled", "sessionID"]);
    }
    // What host keys are proven for: the session's id is that of the first exchange (RFC 4253 section 7.2).
    expect(proofContext(pair.serverSsh)).toEqual({ sessionId, hostKeyAlgorithm: "ssh-ed25519" });
    pair.client.send(Buffer.of(94, round));
    pair.server.send(Buffer.of(94, round));
    await expect.poll(() => [pair.atServer.length, pair.atClient.length]).toEqual([round + 1, round + 1]);
  }
});

test("connections that were made alike share what they offer", async () => {
  const algorithms: ssh2.Algorithms = { cipher: ["aes128-gcm@openssh.com"] };
  const [one, other] = [await open(algorithms), await open(algorithms)];
  expect(privateOf(one.clientSsh)._offer).not.toBe(privateOf(other.clientSsh)._offer);
  settle(one.clientSsh, "alike");
  settle(other.clientSsh, "alike");
  expect(privateOf(one.clientSsh)._offer).toBe(privateOf(other.clientSsh)._offer);
});

test("a forgotten key can no longer be read", () => {
  const key = ssh2.utils.parseKey(generateSshKeyPair(platformRandomBytes).privateKey);
  if (key instanceof Error) throw key;
  expect(key.getPrivatePEM()).toContain("PRIVATE KEY");
  forgetKey(key);
  expect([key.getPrivatePEM(), key.isPrivateKey()]).toEqual([null, false]);
  expect(JSON.stringify(Reflect.ownKeys(key).map((name) => Reflect.get(key, name)))).not.toContain("PRIVATE KEY");
});

test("a connection without the private fields is refused loudly", async () => {
  const pair = await open();
  Reflect.set(privateOf(pair.serverSsh), "_kex", undefined);
  expect(() => settle(pair.serverSsh, null)).toThrow(Ssh2Moved);
});
