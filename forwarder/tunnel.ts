import http from "node:http";
import https from "node:https";
import type { Duplex } from "node:stream";
import { type Failure, failure, isFailure, type Result, success } from "../protocol/failures.ts";
import { HOST_KEY_HEADER, SSH_KEY_HEADER, TUNNEL_HEADER } from "../protocol/headers.ts";

/** Bounds of a tunnel request, in milliseconds; see the settings of the same names. */
export interface TunnelTimes {
  readonly hostConnectTimeoutMs: number;
  readonly wakeTimeoutMs: number;
}

export interface TunnelRequest {
  /** Base URL of the VM's host, from a verified ticket. */
  readonly hostUrl: string;
  readonly vmId: string;
  readonly ticket: string;
  /** OpenSSH public key line that the VM shall admit. */
  readonly publicKey: string;
}

/** An open way to the VM's sshd and the host key line that it must show. */
export interface Tunnel {
  readonly socket: Duplex;
  readonly hostKey: string;
  /** Base URL of the VM's host, and what it calls the tunnel; null: it gave it no name. */
  readonly hostUrl: string;
  readonly id: string | null;
}

const MAX_REFUSAL_BYTES = 65_536;

const HOST_UNREACHABLE: Failure = {
  kind: "host-unavailable",
  message: "The VM's host cannot be reached just now. Try again in a moment.",
};

/**
 * Opens a tunnel to the VM's sshd by HTTP `CONNECT` (RFC 9110 section 9.3.6), which wakes the VM first. Fails with what the
 * host said, `host-unavailable` when it said nothing usable, or `vm-start-timeout` when it took too long.
 */
export function openTunnel(request: TunnelRequest, times: TunnelTimes, signal: AbortSignal): Promise<Result<Tunnel>> {
  return new Promise((resolve) => {
    const url = new URL(request.hostUrl);
    const started = (url.protocol === "https:" ? https : http).request({
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port),
      method: "CONNECT",
      path: `${request.vmId}:22`,
      headers: { "proxy-authorization": `Bearer ${request.ticket}`, [SSH_KEY_HEADER]: request.publicKey },
      agent: false,
      signal,
    });
    let refusal = HOST_UNREACHABLE;
    let answered: Duplex | null = null;
    const giveUp = (why: Failure) => {
      refusal = why;
      (answered ?? started).destroy();
    };
    const connecting = setTimeout(() => giveUp(HOST_UNREACHABLE), times.hostConnectTimeoutMs);
    const waking = setTimeout(() => giveUp(TOO_SLOW), times.wakeTimeoutMs);
    const settle = (result: Result<Tunnel>) => {
      clearTimeout(connecting);
      clearTimeout(waking);
      resolve(result);
    };
    started.on("socket", (socket) => {
      socket.once(url.protocol === "https:" ? "secureConnect" : "connect", () => clearTimeout(connecting));
    });
    // A CONNECT's answer of any status ends up here, its body unread.
    started.on("connect", (response, socket, head) => {
      answered = socket;
      socket.on("error", destroy);
      if (head.length > 0) socket.unshift(head);
      if (response.statusCode !== 200) {
        void readRefusal(response, socket).then(settle);
        return;
      }
      const hostKey = response.headers[HOST_KEY_HEADER];
      const id = response.headers[TUNNEL_HEADER];
      if (typeof hostKey === "string") {
        settle(success({ socket, hostKey, hostUrl: request.hostUrl, id: typeof id === "string" ? id : null }));
      } else {
        socket.destroy();
        settle(failure("internal", "The VM's host did not name the VM's host key, so the VM cannot be trusted."));
      }
    });
    started.on("response", (response) => {
      response.resume();
      settle({ ok: false, failure: HOST_UNREACHABLE });
    });
    started.on("error", () => settle({ ok: false, failure: refusal }));
    started.on("close", () => answered === null && settle({ ok: false, failure: refusal }));
    started.end();
  });
}

// Not a closure: what this connection lives with must not keep its request and ticket alive.
function destroy(this: Duplex): void {
  this.destroy();
}

const TOO_SLOW: Failure = { kind: "vm-start-timeout", message: "The VM did not wake in time. Try again in a moment." };

async function readRefusal(response: http.IncomingMessage, socket: Duplex): Promise<{ ok: false; failure: Failure }> {
  const expected = Math.min(Number(response.headers["content-length"] ?? MAX_REFUSAL_BYTES), MAX_REFUSAL_BYTES);
  let body = Buffer.alloc(0);
  try {
    for await (const chunk of socket) {
      body = Buffer.concat([body, Buffer.from(chunk)]);
      if (body.length >= expected) break;
    }
    const answer: unknown = JSON.parse(body.subarray(0, expected).toString("utf8"));
    if (isFailure(answer)) return { ok: false, failure: answer };
  } catch {
    // Neither a whole body nor JSON: nothing that could be shown.
  } finally {
    socket.destroy();
  }
  return { ok: false, failure: HOST_UNREACHABLE };
}
