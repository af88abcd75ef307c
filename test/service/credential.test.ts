import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { type CredentialOptions, openCredential, type ServiceCredential } from "../../service/credential.ts";
import { createLog } from "../../service/log.ts";
import { JoinRefused } from "../../service/membership.ts";
import { SettingsError } from "../../service/settings.ts";
import { until } from "../host/support/until.ts";
import { EnrolmentDesk } from "./enrolment-desk.ts";

const SECRET = "pss_one-use-token";

let dir: string;
let url: string;
let desk: EnrolmentDesk;
/** What the edge answers instead of what the desk says; the desk decides all the same. */
let instead: number | null;
let lines: string[];
const server = createServer(async (request, response) => {
  const enrolled = desk.enrol(request.headers.authorization, JSON.parse(await textOf(request)));
  response.writeHead(instead ?? (enrolled.ok ? 200 : 401), { "content-type": "application/json" });
  response.end(JSON.stringify(enrolled.ok ? enrolled.value : enrolled.failure));
});

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "postern-credential-"));
  writeFileSync(join(dir, "secret"), `${SECRET}\n`, { mode: 0o600 });
  desk = new EnrolmentDesk(SECRET, "https://edge.test", "test");
  instead = null;
  lines = [];
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(dir, { recursive: true });
});

const open = (more: Partial<CredentialOptions> = {}) =>
  openCredential({
    stateDir: join(dir, "state"),
    edgeUrl: url,
    secretFile: join(dir, "secret"),
    applicant: { kind: "forwarder" },
    clock: Date.now,
    randomBytes: platformRandomBytes,
    log: createLog((line) => lines.push(line)),
    timeoutMs: 2_000,
    retryMs: 5,
    ...more,
  });
const keyFile = () => join(dir, "state", "service-key.json");
const admits = async (credential: ServiceCredential) => desk.admits(`Bearer ${await credential.assertion()}`);

describe("a service's credential", () => {
  test("is enrolled at the first start and kept for every later one", async () => {
    const first = await open();
    expect(await admits(first)).toBe(true);
    const second = await open();
    expect([second.serviceId, await admits(second), desk.asked]).toEqual([first.serviceId, true, 1]);
  });

  test("keeps its private key in a file of the owner's only, and shows it to nobody", async () => {
    const { assertion } = await open();
    expect(statSync(keyFile()).mode & 0o777).toBe(0o600);
    expect(statSync(join(dir, "state")).mode & 0o777).toBe(0o700);
    const { d } = JSON.parse(readFileSync(keyFile(), "utf8")).privateKey;
    expect(`${lines.join("")}${await assertion()}`).not.toContain(d);
    expect(readFileSync(keyFile(), "utf8")).not.toContain(SECRET);
    expect(lines.join("")).not.toContain(SECRET);
  });

  test("needs the join token no more once it is enrolled", async () => {
    const first = await open();
    rmSync(join(dir, "secret"));
    expect((await open()).serviceId).toBe(first.serviceId);
  });

  test("shows a new assertion every time", async () => {
    const { assertion } = await open();
    expect(await assertion()).not.toBe(await assertion());
  });

  test("waits for an edge that has trouble, with the same key", async () => {
    instead = 503;
    const opening = open();
    await until(() => desk.asked >= 3, "it asked again and again");
    instead = null;
    expect(await admits(await opening)).toBe(true);
  });

  test("asks again with the key whose answer got lost in a crash", async () => {
    instead = 503;
    const stop = new AbortController();
    const dying = open({ signal: stop.signal });
    await until(() => desk.asked >= 1, "it asked");
    stop.abort();
    await expect(dying).rejects.toThrow();
    const pending = readFileSync(`${keyFile()}.pending`, "utf8");
    instead = null;
    await open();
    expect(JSON.parse(readFileSync(keyFile(), "utf8")).privateKey).toEqual(JSON.parse(pending).privateKey);
    expect(existsSync(`${keyFile()}.pending`)).toBe(false);
  });

  test("is refused with the edge's reason, and says what to do", async () => {
    writeFileSync(join(dir, "secret"), "pss_wrong");
    const refused = open();
    await expect(refused).rejects.toThrow(JoinRefused);
    await expect(refused).rejects.toThrow("This secret enrols nobody.");
  });

  test("is enrolled anew by another secret, so a revoked service comes back", async () => {
    const revoked = await open();
    desk = new EnrolmentDesk("pss_another", "https://edge.test", "test");
    expect(await admits(revoked)).toBe(false);
    writeFileSync(join(dir, "secret"), "pss_another");
    const back = await open();
    expect(back.serviceId).not.toBe(revoked.serviceId);
    expect(await admits(back)).toBe(true);
  });

  test("goes on with what is enrolled when another secret is refused", async () => {
    const first = await open();
    writeFileSync(join(dir, "secret"), "pss_wrong");
    expect((await open()).serviceId).toBe(first.serviceId);
    expect(lines.join("")).toContain("going on with the key that is enrolled");
  });

  test("cannot be had without a secret the first time, and the error names the file", async () => {
    rmSync(join(dir, "secret"));
    await expect(open()).rejects.toThrow(SettingsError);
    await expect(open()).rejects.toThrow(join(dir, "secret"));
  });

  test("that is damaged stops the start instead of being replaced", async () => {
    await open();
    writeFileSync(keyFile(), '{"privateKey":{}}');
    await expect(open()).rejects.toThrow("delete it to enrol anew");
  });
});

async function textOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return text;
}
