import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { decodeJwt, decodeProtectedHeader, type JWTHeaderParameters, SignJWT } from "jose";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { system } from "../system/fixture.ts";
import { type ForwarderHere, startForwarderHere } from "../system/forwarder-here.ts";
import { until } from "../system/poll.ts";
import { SshClient } from "../system/ssh-client.ts";
import { sshSetting } from "../system/ssh-fixture.ts";
import { wire } from "../system/wire.ts";

/** Tickets of the edge that open nothing where they are shown as the password, each refused with a reason of its own in the log. */

const SECOND_MS = 1_000;
const LOG_DEADLINE_MS = 20_000;
const STRANGERS_TICKET = "The ticket was not accepted for this VM and Linux user.";

const setting = sshSetting();

/** How far the forwarder's clock is ahead of the edge's. */
let aheadMs = 0;
let forwarder: ForwarderHere;
let ssh: SshClient;
beforeAll(async () => {
  forwarder = await startForwarderHere(system, { aheadMs: () => aheadMs });
  ssh = new SshClient(forwarder);
});
afterAll(async () => {
  ssh.close();
  await forwarder.stop();
});
beforeEach(() => {
  aheadMs = 0;
});

async function mint(body: object = {}): Promise<string> {
  const { vmId, token } = setting();
  const { json } = await wire("POST", `/v5/vms/${vmId}/ssh-ticket`, { token }, body);
  return String(json.ticket);
}

/** A ticket of the edge, but for its header and who signed it. */
async function signedByAnother(change: (header: JWTHeaderParameters) => JWTHeaderParameters): Promise<string> {
  const ticket = await mint();
  const header = change(decodeProtectedHeader(ticket) as JWTHeaderParameters);
  const key =
    header.alg === "HS256"
      ? Buffer.from(await (await fetch(`${system.apiUrl}/.well-known/jwks.json`)).text())
      : createPrivateKey(generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }));
  return new SignJWT(decodeJwt(ticket)).setProtectedHeader(header).sign(key);
}

async function changed(): Promise<string> {
  const [header, payload = "", signature] = (await mint({ linuxUser: "alice" })).split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as object;
  return [header, Buffer.from(JSON.stringify({ ...claims, user: "root" })).toString("base64url"), signature].join(".");
}

/** The reasons that the forwarder's log gives for refused tickets. */
const reasons = () => forwarder.log.filter(({ message }) => message === "ticket refused").map(({ reason }) => reason);

const cases: readonly [what: string, ticket: () => Promise<string>, reason: string, told?: string, user?: () => string][] = [
  ["another VM", mint, "other-vm", STRANGERS_TICKET, () => "e".repeat(20)],
  ["another Linux user", () => mint({ linuxUser: "alice" }), "other-user", STRANGERS_TICKET, () => `${setting().vmId}+bob`],
  ["the holder of a key", () => mint({ publicKey: generateSshKeyPair(platformRandomBytes).publicKey }), "confirmation"],
  ["nobody, by a changed Linux user", changed, "signature"],
  ["nobody, by a stranger's signature", () => signedByAnother((header) => header), "signature"],
  ["nobody, signed with the public keys", () => signedByAnother((header) => ({ ...header, alg: "HS256" })), "algorithm"],
  ["something else, by its type", () => signedByAnother((header) => ({ ...header, typ: "JWT" })), "type"],
  ["anything, by no type", () => signedByAnother(({ typ: _typ, ...header }) => header), "type"],
  ["nobody, by a key that the edge never had", () => signedByAnother((header) => ({ ...header, kid: "other" })), "unknown-key"],
  ["the past", later(mint, 70 * SECOND_MS), "expired", "The ticket has expired."],
  ["the future", later(mint, -30 * SECOND_MS), "not-yet-valid", "try again in a moment"],
];

/** The forwarder sees the ticket after so many milliseconds. */
function later(make: () => Promise<string>, ms: number): () => Promise<string> {
  return async () => {
    const ticket = await make();
    aheadMs = ms;
    return ticket;
  };
}

test.each(cases)("a ticket for %s is refused, and the log names why", async (_what, ticket, reason, told, user) => {
  const before = reasons().length;
  const refused = await ssh.sshAnswering(user?.() ?? setting().vmId, await ticket(), "id");
  expect(refused).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
  expect(refused.stderr).toContain(told ?? STRANGERS_TICKET);
  expect(reasons().slice(before)).toEqual([reason]);
});

test("a ticket that was used is refused by its forwarder, and at another forwarder by the VM's host", async () => {
  const { vmId, ssh: elsewhere } = setting();
  const ticket = await mint();
  const show = (client: SshClient) => client.sshAnswering(vmId, ticket, "id -un");
  const atHost = () => readFileSync(join(system.home, "logs", "host.log"), "utf8").match(/"reason":"replayed"/g)?.length ?? 0;
  const [before, seen] = [reasons().length, atHost()];
  expect(await show(elsewhere)).toMatchObject({ code: 0, stdout: Buffer.from("root\n") });
  const stolen = await show(ssh);
  expect(stolen).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
  expect(stolen.stderr).toContain("The ticket was refused.");
  // `npm start` passes its parts' lines on to the file; the client may have its answer sooner.
  await until("the host's log says so", LOG_DEADLINE_MS, () => atHost() > seen || undefined);
  expect([reasons().length, atHost()]).toEqual([before, seen + 1]);
  expect((await show(ssh)).stderr).toContain("The ticket has been used already");
  expect(reasons().slice(before)).toEqual(["replayed"]);
});
