import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { Gate } from "../../host/gate.ts";
import { encodeBase32 } from "../../protocol/base32.ts";
import { FAILURES, type Failure } from "../../protocol/failures.ts";
import type { Floor } from "../../protocol/floors.ts";
import type { Operation } from "../../protocol/operations.ts";
import { hostAudience } from "../../protocol/ticket.ts";
import { openCredential } from "../../service/credential.ts";
import { createLog } from "../../service/log.ts";
import { DEFAULT_MEMBERSHIP_TIMES, joinRegion, type Membership } from "../../service/membership.ts";

const OPERATIONS: Readonly<Record<string, Operation>> = {
  "PUT ": "create",
  "GET ": "read",
  "DELETE ": "delete",
  "POST exec": "exec",
  "GET files": "files",
  "POST start": "start",
  "POST suspend": "suspend",
  "POST snapshots": "snapshot",
  "DELETE snapshots": "snapshot",
};

/** What a ticket has opened. */
export interface Admitted {
  readonly vmId: string;
  readonly operation: Operation;
  readonly method: string;
  /** The rest of the path after the VM's id. */
  readonly rest: readonly string[];
  readonly body: string;
}

export interface VerifyingHostOptions {
  /** Where it keeps its key; the same folder is the same host. */
  readonly folder: string;
  readonly edgeUrl: string;
  /** Where it dials its feed; the edge itself unless there is something in between. */
  readonly feedUrl?: string;
  readonly serviceKey: string;
  readonly clock?: () => number;
  /** Absent: any free port. */
  readonly port?: number;
  readonly onFloor?: (floor: Floor) => void;
  /** Does what was asked and says what to answer with; absent: everything succeeds at once. Null: the connection is broken off. */
  readonly carryOut?: (asked: Admitted) => Promise<object | null>;
}

/**
 * A host with the real gate, verifier, credential and feed, and nothing behind them: whatever a ticket opens succeeds at once.
 * For what is asked of tickets, not of machines.
 */
export class VerifyingHost {
  readonly id: string;
  readonly url: string;
  readonly membership: Membership;
  /** Operations that were carried out. */
  admitted = 0;
  /** `Authorization` of the last of them; null: there was none. */
  authorization: string | null = null;
  readonly #server: Server;

  private constructor(id: string, url: string, membership: Membership, server: Server) {
    this.id = id;
    this.url = url;
    this.membership = membership;
    this.#server = server;
  }

  static async start(options: VerifyingHostOptions): Promise<VerifyingHost> {
    const { folder, edgeUrl, feedUrl = edgeUrl, serviceKey, clock = Date.now, port = 0, onFloor, carryOut = succeed } = options;
    mkdirSync(folder, { recursive: true });
    const secretFile = join(folder, "secret");
    writeFileSync(secretFile, serviceKey, { mode: 0o600 });
    const id = idOf(folder);
    const log = createLog(() => undefined);
    let host: VerifyingHost | null = null;
    const gate = new Gate(() => host?.membership.verifier ?? null);
    const server = createServer((request, response) => {
      const act = (asked: Admitted) => {
        host?.noteAdmitted(request);
        return carryOut(asked);
      };
      answer(gate, request, response, act).catch(() => response.destroy());
    });
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const applicant = { kind: "host", hostId: id } as const;
    const random = (length: number) => Uint8Array.from(randomBytes(length));
    const credential = await openCredential({
      stateDir: folder,
      edgeUrl,
      secretFile,
      applicant,
      clock,
      randomBytes: random,
      log,
      timeoutMs: 10_000,
      retryMs: 200,
    });
    const membership = await joinRegion({
      edgeUrl: feedUrl,
      credential,
      hello: { type: "hello", role: "host", id, url, driver: "none", version: "1", capacity: 1_000_000 },
      audience: () => hostAudience(id),
      clock,
      log,
      times: { ...DEFAULT_MEMBERSHIP_TIMES, redialMaxMs: 500 },
      ...(onFloor === undefined ? {} : { onFloor }),
    });
    host = new VerifyingHost(id, url, membership, server);
    return host;
  }

  noteAdmitted({ headers }: IncomingMessage): void {
    this.admitted += 1;
    this.authorization = headers.authorization ?? null;
  }

  async stop(): Promise<void> {
    this.membership.close();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

const ids = new Map<string, string>();

function idOf(folder: string): string {
  const id = ids.get(folder) ?? encodeBase32(Uint8Array.from(randomBytes(10)));
  ids.set(folder, id);
  return id;
}

async function answer(
  gate: Gate,
  request: IncomingMessage,
  response: ServerResponse,
  act: (asked: Admitted) => Promise<object | null>,
): Promise<void> {
  let body = "";
  for await (const chunk of request) body += chunk;
  const [, , vmId = "", ...rest] = new URL(request.url ?? "", "http://host").pathname.split("/");
  const operation = OPERATIONS[`${request.method} ${rest[0] ?? ""}`] ?? "read";
  const admission = await gate.admit(
    request.headers.authorization,
    { vmId, operation },
    createLog(() => undefined),
  );
  if (!admission.ok) return fail(response, admission.failure);
  const done = await act({ vmId, operation, method: request.method ?? "", rest, body });
  if (done === null) response.destroy();
  else send(response, 200, done);
}

async function succeed({ operation }: Admitted): Promise<object> {
  const status = { state: operation === "delete" ? "missing" : "running", at: Date.now() };
  return operation === "exec" ? { stdout: "", stderr: "", statusCode: 0 } : status;
}

function fail(response: ServerResponse, failure: Failure): void {
  send(response, FAILURES[failure.kind].v5[1], failure);
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}
