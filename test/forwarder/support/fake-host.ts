import { createServer, type IncomingMessage } from "node:http";
import { type AddressInfo, connect } from "node:net";
import type { Duplex } from "node:stream";
import { createLocalJWKSet } from "jose";
import { FAILURES, type Failure } from "../../../protocol/failures.ts";
import { HOST_KEY_HEADER, SSH_KEY_HEADER, TUNNEL_HEADER } from "../../../protocol/headers.ts";
import { checkTicket, hostAudience } from "../../../protocol/ticket.ts";
import { pump } from "../../../service/pump.ts";
import { type FakeEdge, HOST_ID } from "./fake-edge.ts";
import type { Sshd } from "./sshd.ts";

const TUNNEL_ID = "the-tunnel";

/** A host whose only VM is a real sshd: checks the ticket, admits the key, and splices bytes. */
export class FakeHost {
  readonly tunnels: { readonly vmId: string; readonly ticket: string }[] = [];
  /** Resolved before a tunnel is answered: a VM that takes its time to wake. */
  waking: Promise<void> = Promise.resolve();
  /** Answers the next tunnels with these failures, one each. */
  failures: Failure[] = [];
  /** What is named as the VM's host key; null names none. */
  hostKey: string | null;
  /** Whether the connection's key is given to the VM. */
  admitsKey = true;
  /** What VMs have sent through tunnels, and have been sent. */
  bytesFromVm = 0;
  bytesToVm = 0;
  /** Why tunnels were cut, as its own route answers. */
  endReason: string | null = null;
  readonly #sshd: Sshd;
  readonly #edge: FakeEdge;
  /** How often it was told that somebody types. */
  typed = 0;
  readonly #server = createServer((request, response) => {
    const known = request.headers[TUNNEL_HEADER] === TUNNEL_ID;
    if (known && request.method === "POST" && request.url === "/tunnel/use") {
      this.typed += 1;
      response.writeHead(204).end();
      return;
    }
    const asked = known && request.url === "/tunnel/end";
    response.writeHead(asked ? 200 : 404).end(asked ? JSON.stringify({ reason: this.endReason }) : "");
  });
  readonly #sockets = new Set<Duplex>();

  constructor(sshd: Sshd, edge: FakeEdge) {
    this.#sshd = sshd;
    this.#edge = edge;
    this.hostKey = sshd.hostKey;
    this.#server.on("connect", (request, socket, head) => void this.#tunnel(request, socket, head));
  }

  get openTunnels(): number {
    return this.#sockets.size;
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.#edge.hostUrl = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Breaks every tunnel, as a host that dies would. */
  breakTunnels(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.breakTunnels();
    this.#server.closeAllConnections();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  async #tunnel(request: IncomingMessage, client: Duplex, head: Buffer): Promise<void> {
    client.on("error", () => client.destroy());
    this.#sockets.add(client);
    client.on("close", () => this.#sockets.delete(client));
    // Node's HTTP server leaves its sockets half open.
    client.on("end", () => client.end());
    const ticket = (request.headers["proxy-authorization"] ?? "").replace(/^Bearer /, "");
    const vmId = (request.url ?? "").replace(/:22$/, "");
    this.tunnels.push({ vmId, ticket });
    const checked = await checkTicket(ticket, {
      getKey: createLocalJWKSet((await this.#edge.jwks()) as Parameters<typeof createLocalJWKSet>[0]),
      issuer: this.#edge.issuer,
      audience: hostAudience(HOST_ID),
      now: Date.now(),
    });
    if (!checked.ok || checked.claims.vm !== vmId || checked.claims.op !== "ssh") {
      refuse(client, { kind: "ticket-refused", message: "The ticket was refused." });
      return;
    }
    const failure = this.failures.shift();
    if (failure !== undefined) {
      refuse(client, failure);
      return;
    }
    // A socket that nobody reads never sees its peer leave.
    client.resume();
    await this.waking;
    if (client.destroyed) return;
    const key = request.headers[SSH_KEY_HEADER];
    if (this.admitsKey && typeof key === "string") this.#sshd.authorise(key);
    const server = connect(this.#sshd.port, "127.0.0.1");
    server.on("error", () => client.destroy());
    server.on("connect", () => {
      const named = this.hostKey === null ? "" : `${HOST_KEY_HEADER}: ${this.hostKey}\r\n`;
      client.write(`HTTP/1.1 200 Connection Established\r\n${named}${TUNNEL_HEADER}: ${TUNNEL_ID}\r\n\r\n`);
      server.write(head);
      pump(client, server, (bytes) => {
        this.bytesToVm += bytes;
      });
      pump(server, client, (bytes) => {
        this.bytesFromVm += bytes;
      });
    });
    client.on("close", () => server.destroy());
    server.on("close", () => client.destroy());
  }
}

function refuse(socket: Duplex, failure: Failure): void {
  const body = JSON.stringify(failure);
  const status = FAILURES[failure.kind].v5[1];
  socket.end(`HTTP/1.1 ${status} Refused\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
}
