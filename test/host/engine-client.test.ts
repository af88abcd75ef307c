import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type Docker from "dockerode";
import { expect, it, onTestFinished } from "vitest";
import { engineClient } from "../../host/drivers/engine-client.ts";

/** An engine that answers as it is told. */
async function engineThat(answers: RequestListener): Promise<Docker> {
  const folder = await mkdtemp(join(tmpdir(), "postern-agent-"));
  const socketPath = join(folder, "engine.sock");
  const server = createServer(answers).listen(socketPath);
  await once(server, "listening");
  onTestFinished(async () => {
    server.closeAllConnections();
    server.close();
    await rm(folder, { recursive: true });
  });
  return engineClient(socketPath, 10_000);
}

it("a request of an engine that is killed in the middle of its answer fails", async () => {
  const docker = await engineThat((_request, response) => {
    response.writeHead(200, { "content-length": "100" }).write("[", () => response.destroy());
  });
  await expect(docker.listContainers()).rejects.toThrow("broke off");
});

it("a request of an engine that answers in pieces is answered", async () => {
  const docker = await engineThat((_request, response) => {
    response.write("[", () => response.end("]"));
  });
  expect(await docker.listContainers()).toEqual([]);
});
