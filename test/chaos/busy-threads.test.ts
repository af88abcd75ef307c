import { pbkdf2 } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { ApiClient } from "../../bin/operator.ts";
import { LocalEdge } from "../system/local-edge.ts";
import { VerifyingHost } from "../system/verifying-host.ts";

/** More than the threads that Node has for files, signatures and the like. */
const JOBS = 8;
const ROUNDS = 20;

/** Keeps every thread of this process, which is the host's, busy until the test ends. */
function keepThreadsBusy(): void {
  let isOver = false;
  onTestFinished(() => {
    isOver = true;
  });
  const job = () => {
    if (!isOver) pbkdf2("a", "b", 20_000, 32, "sha256", job);
  };
  for (let started = 0; started < JOBS; started += 1) job();
}

async function startWorld() {
  const folder = mkdtempSync(join(tmpdir(), "postern-threads-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const edge = await LocalEdge.start({ folder: join(folder, "edge") });
  onTestFinished(() => edge.end("SIGTERM"));
  const { operator } = edge;
  const { serviceKey } = await operator.request<{ serviceKey: string }>("POST", "/operator/v1/regions/local/service-keys", {});
  const host = await VerifyingHost.start({ folder: join(folder, "host"), edgeUrl: edge.url, serviceKey });
  onTestFinished(() => host.stop());
  const { apiKey } = await operator.request<{ apiKey: string }>("POST", "/operator/v1/accounts", { name: "threads" });
  return { edge, owner: new ApiClient(edge.url, apiKey) };
}

test("what is taken away is refused to the very next request, though every thread of the host is busy", async () => {
  const { edge, owner } = await startWorld();
  const { id: vmId } = await owner.request<{ id: string }>("POST", "/v1/vms", {});
  const { id } = await owner.request<{ id: string }>("POST", "/identity/v1/identities");
  const grant = `/identity/v1/identities/${id}/permissions/vm/${vmId}`;
  await owner.request("POST", grant, {});
  const { token } = await owner.request<{ token: string }>("POST", `/identity/v1/identities/${id}/tokens`);
  const exec = async () => {
    const headers = { "x-freestyle-identity-access-token": token, "content-type": "application/json" };
    const body = JSON.stringify({ command: "true", terminal: null, timeoutMs: null });
    const answer = await fetch(`${edge.url}/v1/vms/${vmId}/exec-await`, { method: "POST", headers, body });
    await answer.arrayBuffer();
    return answer.status;
  };
  keepThreadsBusy();
  const seen: string[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    await owner.request("PUT", grant, { allowedUsers: null });
    const allowed = await exec();
    await owner.request("PUT", grant, { allowedUsers: ["alice"] });
    seen.push(`${allowed}, then ${await exec()}`);
  }
  expect(new Set(seen)).toEqual(new Set(["200, then 403"]));
}, 60_000);
