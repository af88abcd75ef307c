import { request } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import { PublishedKeys } from "../../host/keys.ts";
import { type MetadataServer, startMetadataServer } from "../../host/metadata.ts";
import { createLog } from "../../service/log.ts";

const VM_A = "a".repeat(20);
const VM_B = "b".repeat(20);
const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKQ1";

describe("metadata", () => {
  let now = 0;
  const keys = new PublishedKeys(() => now, 60_000);
  const servers: MetadataServer[] = [];
  afterEach(async () => {
    for (const server of servers.splice(0)) await server.close();
  });

  async function start() {
    const owners = new Map([
      ["127.0.0.2", VM_A],
      ["127.0.0.3", VM_B],
    ]);
    const server = await startMetadataServer({
      address: "127.0.0.1",
      port: 0,
      vmAtAddress: (address) => owners.get(address) ?? null,
      keys,
      headersTimeoutMs: 1_000,
      log: createLog(() => undefined),
    });
    servers.push(server);
    return (from: string, path: string, method = "GET") =>
      new Promise<{ status: number; body: string }>((resolve, reject) => {
        const asked = request({ host: "127.0.0.1", port: server.port, localAddress: from, path, method }, async (answer) => {
          let body = "";
          for await (const chunk of answer) body += String(chunk);
          resolve({ status: answer.statusCode ?? 0, body });
        });
        asked.on("error", reject);
        asked.end();
      });
  }

  test("gives a guest the keys of the user it names, and its own id", async () => {
    const ask = await start();
    const withdraw = keys.publish(VM_A, "root", KEY);
    expect(await ask("127.0.0.2", "/latest/ssh-keys?user=root")).toEqual({ status: 200, body: `${KEY}\n` });
    expect(await ask("127.0.0.2", "/latest/instance-id")).toEqual({ status: 200, body: `${VM_A}\n` });
    withdraw();
    expect(await ask("127.0.0.2", "/latest/ssh-keys?user=root")).toEqual({ status: 200, body: "" });
  });

  test("gives no guest another guest's keys, nor a user another user's", async () => {
    const ask = await start();
    const withdraw = keys.publish(VM_A, "developer", KEY);
    expect((await ask("127.0.0.3", "/latest/ssh-keys?user=developer")).body).toBe("");
    expect((await ask("127.0.0.2", "/latest/ssh-keys?user=root")).body).toBe("");
    withdraw();
  });

  test("gives a key once however often it is published, until the last withdrawal", () => {
    const first = keys.publish(VM_A, "root", KEY);
    const second = keys.publish(VM_A, "root", KEY);
    expect(keys.list(VM_A, "root")).toEqual([KEY]);
    first();
    first();
    expect(keys.list(VM_A, "root")).toEqual([KEY]);
    second();
    expect(keys.list(VM_A, "root")).toEqual([]);
  });

  test("drops a key after its lifetime though nobody withdrew it", () => {
    keys.publish(VM_B, "root", KEY);
    now += 59_999;
    expect(keys.list(VM_B, "root")).toEqual([KEY]);
    now += 1;
    expect(keys.list(VM_B, "root")).toEqual([]);
  });

  test.each([
    "/",
    "/latest",
    "/latest/",
    "/latest/ssh-keys",
    "/latest/ssh-keys?user=",
    "/latest/ssh-keys?user=Root",
    "/latest/ssh-keys?user=a%0Ab",
    "/latest/ssh-keys/root?user=root",
    "/latest/../latest/secret",
    "//latest/instance-id",
  ])("knows nothing at %s", async (path) => {
    const ask = await start();
    expect((await ask("127.0.0.2", path)).status).toBe(404);
  });

  test.each(["POST", "PUT", "DELETE"])("takes no %s", async (method) => {
    const ask = await start();
    expect((await ask("127.0.0.2", "/latest/instance-id", method)).status).toBe(404);
  });

  test("knows nobody but its guests", async () => {
    const ask = await start();
    expect((await ask("127.0.0.1", "/latest/instance-id")).status).toBe(404);
    expect((await ask("127.0.0.9", "/latest/ssh-keys?user=root")).status).toBe(404);
  });
});
