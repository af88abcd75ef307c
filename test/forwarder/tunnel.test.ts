import { createServer, type Server } from "node:net";
import { afterEach, expect, test } from "vitest";
import { openTunnel } from "../../forwarder/tunnel.ts";
import type { Failure } from "../../protocol/failures.ts";

const TIMES = { hostConnectTimeoutMs: 2_000, wakeTimeoutMs: 4_000 };
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** A host that answers every request with these bytes; what it heard is in the second part of the answer. */
async function host(answer: string, keepOpen = false): Promise<{ url: string; heard: string[] }> {
  const heard: string[] = [];
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", (chunk) => {
      heard.push(chunk.toString());
      if (keepOpen) socket.write(answer);
      else socket.end(answer);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { url: `http://127.0.0.1:${address.port}`, heard };
}

async function failureOf(hostUrl: string, times = TIMES): Promise<Failure | null> {
  const opened = await openTunnel(
    { hostUrl, vmId: "a".repeat(20), ticket: "ticket", publicKey: "ssh-ed25519 AAAA" },
    times,
    new AbortController().signal,
  );
  if (!opened.ok) return opened.failure;
  opened.value.socket.destroy();
  return null;
}

test("bytes that the VM sends with the answer are kept, and the ticket travels only in its header", async () => {
  const { url, heard } = await host("HTTP/1.1 200 OK\r\npostern-host-key: ssh-ed25519 KEY\r\n\r\nSSH-2.0-early", true);
  const opened = await openTunnel(
    { hostUrl: url, vmId: "a".repeat(20), ticket: "ticket", publicKey: "ssh-ed25519 AAAA" },
    TIMES,
    new AbortController().signal,
  );
  if (!opened.ok) throw new Error(opened.failure.message);
  const { socket, hostKey } = opened.value;
  const first: Buffer = await new Promise((resolve) => socket.once("data", resolve));
  socket.destroy();
  expect([hostKey, first.toString()]).toEqual(["ssh-ed25519 KEY", "SSH-2.0-early"]);
  expect(heard[0]?.split("\r\n")[0]).toBe(`CONNECT ${"a".repeat(20)}:22 HTTP/1.1`);
  expect(heard[0]).toContain("proxy-authorization: Bearer ticket\r\n");
  expect(heard[0]).toContain("postern-ssh-key: ssh-ed25519 AAAA\r\n");
});

const body = JSON.stringify({ kind: "vm-start-failed", message: "It will not start." });

test.each([
  ["with its length", `HTTP/1.1 500 E\r\ncontent-length: ${body.length}\r\n\r\n${body}`, true],
  ["until it closes", `HTTP/1.1 500 E\r\nconnection: close\r\n\r\n${body}`, false],
])("a host's reason sent %s is handed on", async (_how, answer, keepOpen) => {
  const { url } = await host(answer, keepOpen);
  expect(await failureOf(url)).toEqual({ kind: "vm-start-failed", message: "It will not start." });
});

test.each([
  ["no JSON", "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\noops"],
  ["JSON of another form", "HTTP/1.1 500 E\r\ncontent-length: 2\r\n\r\n{}"],
  ["an unknown kind", 'HTTP/1.1 500 E\r\ncontent-length: 25\r\n\r\n{"kind":"x","message":""}'],
  ["an endless body", `HTTP/1.1 500 E\r\n\r\n${"x".repeat(200_000)}`],
  ["no HTTP", "SSH-2.0-OpenSSH\r\n"],
  ["nothing", ""],
])("a host that answers with %s counts as out of reach", async (_what, answer) => {
  const { url } = await host(answer);
  expect((await failureOf(url))?.kind).toBe("host-unavailable");
});

test("a host that takes too long to wake the VM is given up", async () => {
  const { url } = await host("", true);
  expect((await failureOf(url, { ...TIMES, wakeTimeoutMs: 50 }))?.kind).toBe("vm-start-timeout");
});

test("a refusal that never ends is given up", async () => {
  const { url } = await host("HTTP/1.1 500 E\r\ncontent-length: 500\r\n\r\n{", true);
  expect((await failureOf(url, { ...TIMES, wakeTimeoutMs: 200 }))?.kind).toBe("host-unavailable");
});

test("giving up a tunnel that is not there yet answers at once", async () => {
  const { url } = await host("", true);
  const over = new AbortController();
  const opening = openTunnel({ hostUrl: url, vmId: "a".repeat(20), ticket: "t", publicKey: "k" }, TIMES, over.signal);
  over.abort();
  expect((await opening).ok).toBe(false);
});
