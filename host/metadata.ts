import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { isLinuxUser } from "../protocol/linux-user.ts";
import type { Log } from "../service/log.ts";
import type { PublishedKeys } from "./keys.ts";

export interface MetadataOptions {
  readonly address: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** The VM that owns a source address on the guests' network. */
  readonly vmAtAddress: (address: string) => string | null;
  readonly keys: PublishedKeys;
  readonly headersTimeoutMs: number;
  readonly log: Log;
}

export interface MetadataServer {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Serves VM metadata to guests, each its own and nothing else: who asks is known by the source address alone, which guests
 * cannot forge. `GET /latest/ssh-keys?user=U` → the public key lines that U's sshd admits now; `GET /latest/instance-id` →
 * the VM's id. Everything else, and everybody else, gets 404. No secret is ever served.
 */
export async function startMetadataServer(options: MetadataOptions): Promise<MetadataServer> {
  const server = createServer(
    { headersTimeout: options.headersTimeoutMs, requestTimeout: options.headersTimeoutMs },
    (request, response) => {
      const body = metadataFor(request, options);
      answer(response, body);
      request.resume();
    },
  );
  server.on("clientError", (_error, socket) => socket.destroy());
  await listen(server, options.address, options.port);
  const { port } = server.address() as AddressInfo;
  options.log.info("metadata server listens", { address: options.address, port });
  return {
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function metadataFor(request: IncomingMessage, { vmAtAddress, keys }: MetadataOptions): string | null {
  // An IPv4 peer of a dual-stack socket shows as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2).
  const source = (request.socket.remoteAddress ?? "").replace(/^::ffff:/, "");
  const vmId = vmAtAddress(source);
  if (vmId === null || request.method !== "GET") return null;
  const url = URL.parse(request.url ?? "", "http://metadata");
  if (url?.pathname === "/latest/instance-id") return `${vmId}\n`;
  if (url?.pathname !== "/latest/ssh-keys") return null;
  const user = url.searchParams.get("user") ?? "";
  if (!isLinuxUser(user)) return null;
  return keys
    .list(vmId, user)
    .map((line) => `${line}\n`)
    .join("");
}

function answer(response: ServerResponse, body: string | null): void {
  const text = body ?? "not found\n";
  response.writeHead(body === null ? 404 : 200, {
    "content-type": "text/plain; charset=utf-8",
    "content-length": Buffer.byteLength(text),
    "cache-control": "no-store",
    connection: "close",
  });
  response.end(text);
}

function listen(server: Server, address: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, address, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
