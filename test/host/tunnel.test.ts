import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import type { TicketClaims } from "../../protocol/ticket.ts";
import { generateSshKeyPair, parseSshPublicKey } from "../../service/ssh-keys.ts";
import { startTestHost, type TestHost } from "./support/test-host.ts";
import { connectTunnel, logIn, newPair, runCommand, type TunnelAnswer } from "./support/tunnel-client.ts";
import { until } from "./support/until.ts";

describe("tunnel", () => {
  let host: TestHost;
  let vm: string;
  beforeAll(async () => {
    host = await startTestHost({ POSTERN_VM_TUNNELS: "3" });
    vm = await host.createVm({ users: [{ name: "developer" }] });
  }, 60_000);
  afterAll(() => host.close());

  const connect = (claims: Partial<TicketClaims>, keyLine: string | null, target?: string, early?: string) =>
    connectTunnel(host, vm, claims, keyLine, target, early);
  const kindOf = ({ status, body }: TunnelAnswer) => [status, (JSON.parse(body) as { kind: string }).kind];

  test("leads to the VM's sshd, which admits the key for the ticket's user and shows the pinned host key", async () => {
    const own = newPair();
    const answer = await connect({ user: "developer" }, own.publicKey);
    expect(answer.status).toBe(200);
    const client = await logIn(answer, own, "developer");
    expect(await runCommand(client, "id -un")).toBe("developer\n");
    client.end();
  });

  test("carries bytes that were sent together with the request", async () => {
    const answer = await connect({}, newPair().publicKey, `${vm}:22`, "SSH-2.0-early\r\n");
    const chunks: string[] = [];
    answer.socket.on("data", (data) => chunks.push(data.toString("latin1")));
    await until(() => chunks.join("").includes("curve25519"), "the server answered to the early identification");
    answer.socket.destroy();
  });

  test("admits the key for no other Linux user", async () => {
    const own = newPair();
    const answer = await connect({ user: "developer" }, own.publicKey);
    await expect(logIn(answer, own, "root")).rejects.toThrow("authentication");
    answer.socket.destroy();
  });

  test("admits no other key", async () => {
    const answer = await connect({}, newPair().publicKey);
    await expect(logIn(answer, newPair(), "root")).rejects.toThrow("authentication");
    answer.socket.destroy();
  });

  test("forgets the key when the tunnel is closed", async () => {
    const own = newPair();
    const first = await connect({}, own.publicKey);
    (await logIn(first, own, "root")).end();
    await until(() => first.socket.closed, "the first tunnel is closed");
    await until(() => host.log.some((line) => line.includes("tunnel closed")), "the host noticed");
    const second = await connect({}, newPair().publicKey);
    await expect(logIn(second, own, "root")).rejects.toThrow("authentication");
    second.socket.destroy();
  });

  test("wakes a sleeping VM", async () => {
    const own = newPair();
    await host.request("POST", `/vms/${vm}/stop`, { vm, op: "stop" });
    const answer = await connect({}, own.publicKey);
    const client = await logIn(answer, own, "root");
    expect(await runCommand(client, "echo awake")).toBe("awake\n");
    client.end();
  });

  test("passes the end of one direction on while the other still flows", async () => {
    const answer = await connect({}, newPair().publicKey);
    const chunks: Buffer[] = [];
    answer.socket.on("data", (data: Buffer) => chunks.push(data));
    answer.socket.end("SSH-2.0-half\r\n");
    await until(() => answer.socket.closed, "the guest ended its side too");
    expect(Buffer.concat(chunks).toString("latin1")).toMatch(/^SSH-2\.0-OpenSSH/);
  });

  test("refuses more tunnels than a VM may have, and takes one again when one closed", async () => {
    const opened = await Promise.all([1, 2, 3].map(() => connect({}, newPair().publicKey)));
    expect(kindOf(await connect({}, newPair().publicKey))).toEqual([409, "vm-busy"]);
    for (const { socket } of opened) socket.destroy();
    await until(async () => {
      const { status, socket } = await connect({}, newPair().publicKey);
      socket.destroy();
      return status === 200;
    }, "there is room again");
  });

  test("lets no more in than a VM may have, however many arrive together", async () => {
    const other = await host.createVm({});
    const many = Array.from({ length: 12 }, () => connect({ vm: other }, newPair().publicKey, `${other}:22`));
    const answers = await Promise.all(many);
    for (const { socket } of answers) socket.destroy();
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(3);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(9);
  });

  test("takes no room for a tunnel that it refuses", async () => {
    const other = await host.createVm({});
    for (let tries = 0; tries < 4; tries += 1) {
      const refused = await connect({ vm: other, user: "stranger" }, newPair().publicKey, `${other}:22`);
      expect(kindOf(refused)).toEqual([404, "linux-user-not-found"]);
    }
    const { status, socket } = await connect({ vm: other }, newPair().publicKey, `${other}:22`);
    socket.destroy();
    expect(status).toBe(200);
  });

  test("admits a ticket that is bound to the key that is shown", async () => {
    const own = newPair();
    const fingerprint = parseSshPublicKey(own.publicKey)?.fingerprint ?? "";
    const answer = await connect({ cnf: { ssh: fingerprint } }, own.publicKey);
    expect(answer.status).toBe(200);
    answer.socket.destroy();
  });

  test.each<[string, Partial<TicketClaims>, number, string]>([
    ["for another operation", { op: "exec" }, 401, "ticket-refused"],
    ["for another VM", { vm: "b".repeat(20) }, 401, "ticket-refused"],
    ["for another host", { aud: ["host:zzzzzzzzzzzzzzzz"] }, 401, "ticket-refused"],
    ["without a Linux user", { user: null }, 401, "ticket-refused"],
    ["bound to another key", { cnf: { ssh: "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" } }, 401, "ticket-refused"],
    ["for a Linux user that does not exist", { user: "nobody-here" }, 404, "linux-user-not-found"],
    ["for a Linux user without a login shell", { user: "nobody" }, 403, "linux-user-forbidden"],
  ])("refuses a ticket %s before any tunnel", async (_what, claims, status, kind) => {
    expect(kindOf(await connect(claims, newPair().publicKey))).toEqual([status, kind]);
  });

  test("refuses a VM that is not on this host", async () => {
    const other = "c".repeat(20);
    expect(kindOf(await connect({ vm: other }, newPair().publicKey, `${other}:22`))).toEqual([404, "vm-not-found"]);
  });

  test.each([":22", "localhost:22", "127.0.0.1:80", `${"a".repeat(20)}:23`, `${"a".repeat(20)}:22:22`, "../../x:22"])(
    "refuses to lead to %s",
    async (target) => {
      expect((await connect({}, newPair().publicKey, target)).status).toBeGreaterThanOrEqual(400);
    },
  );

  const good = generateSshKeyPair(platformRandomBytes).publicKey;
  test.each([
    ["no key", null],
    ["an empty key", ""],
    ["a comment behind it", `${good} me@home`],
    ["options before it", `command="id" ${good}`],
    ["two keys", `${good},${good}`],
    ["an RSA key", good.replace("ssh-ed25519", "ssh-rsa")],
    ["a key cut short", good.slice(0, -4)],
    ["a key of another kind inside", `ssh-ed25519 ${Buffer.alloc(51).toString("base64")}`],
  ])("refuses %s as the key", async (_what, line) => {
    expect(kindOf(await connect({}, line))).toEqual([400, "bad-request"]);
  });
});
