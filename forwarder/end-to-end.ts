import type { Duplex } from "node:stream";
import type { Failure } from "../protocol/failures.ts";
import { pump } from "../service/pump.ts";
import { parseSshPublicKey } from "../service/ssh-keys.ts";
import type { AdmittedClaims } from "./admission.ts";
import type { Connection, ConnectionOptions } from "./connection-options.ts";
import { type Opening, READY_KEYWORD, REFUSED_KEYWORD } from "./opening.ts";
import { printable } from "./text.ts";
import { openTunnel } from "./tunnel.ts";

export interface EndToEndOptions extends ConnectionOptions {
  readonly opening: Extract<Opening, { kind: "ticket" }>;
}

/**
 * A connection whose SSH ends in the VM: the ticket opens a tunnel for the client's own key, and from then on bytes are
 * copied that nobody on the way can read.
 */
export class EndToEndConnection implements Connection {
  readonly #options: EndToEndOptions;
  readonly #over = new AbortController();
  #loggedIn = false;
  #tunnel: Duplex | null = null;
  #forget: () => void = () => undefined;

  constructor(options: EndToEndOptions) {
    this.#options = options;
    const { socket, log } = options;
    socket.on("close", () => this.#release("client left"));
    // Paused until the VM is there: what the client sends meanwhile waits in the kernel.
    socket.pause();
    this.#start().catch((error: unknown) => {
      log.error("end-to-end connection failed", { error: error instanceof Error ? error.message : "unknown" });
      socket.destroy();
    });
  }

  get loggedIn(): boolean {
    return this.#loggedIn;
  }

  end(text: string): void {
    if (this.#over.signal.aborted) return;
    this.#release(text);
    this.#options.socket.destroy();
  }

  notify(): void {
    // Nothing can be said inside a connection that is the VM's.
  }

  async #start(): Promise<void> {
    const { admitter, metrics, opening, times, log, socket } = this.#options;
    const key = parseSshPublicKey(opening.publicKey);
    if (key === null) {
      this.#refuse({ kind: "bad-request", message: "The public key is not an ssh-ed25519 key." });
      return;
    }
    const admitted = await admitter.admitEndToEnd(opening.ticket, key.fingerprint);
    metrics.logins({ mode: "end-to-end", outcome: admitted.ok ? "ok" : admitted.failure.kind });
    if (this.#over.signal.aborted) return;
    if (!admitted.ok) {
      this.#refuse(admitted.failure);
      return;
    }
    const { claims, ticket } = admitted.value;
    this.#begin(claims);
    const request = { hostUrl: claims.host_url, vmId: claims.vm, ticket, publicKey: key.line };
    const opened = await openTunnel(request, times, this.#over.signal);
    metrics.tunnels({ outcome: opened.ok ? "ok" : opened.failure.kind });
    if (!opened.ok) {
      log.info("the VM was not reached", { reason: opened.failure.kind });
      this.#refuse(opened.failure);
      return;
    }
    const tunnel = opened.value.socket;
    if (this.#over.signal.aborted) {
      tunnel.destroy();
      return;
    }
    this.#tunnel = tunnel;
    tunnel.on("close", () => socket.end());
    socket.write(`${READY_KEYWORD} ${opened.value.hostKey}\n`);
    tunnel.write(opening.rest);
    pump(socket, tunnel, (bytes) => {
      metrics.bytesUp += bytes;
    });
    pump(tunnel, socket, (bytes) => {
      metrics.bytesDown += bytes;
    });
  }

  #begin(claims: AdmittedClaims): void {
    const { sessions, id, address, log, onLogin } = this.#options;
    this.#loggedIn = true;
    const { vm, user, sub, cred, jti } = claims;
    log.info("logged in", { vm, user, sub, credential: cred, ticket: jti, mode: "end-to-end" });
    onLogin();
    this.#forget = sessions.add({ id, claims, address, end: (text) => this.end(text) });
  }

  #refuse(failure: Failure): void {
    if (this.#over.signal.aborted) return;
    const { socket, times } = this.#options;
    socket.end(`${REFUSED_KEYWORD} ${printable(failure.message)}\n`);
    this.#release(failure.kind);
    // Until the peer has taken it, or has had the time to.
    socket.resume();
    const timer = setTimeout(() => socket.destroy(), times.closeLingerMs);
    socket.once("close", () => clearTimeout(timer));
  }

  #release(reason: string): void {
    if (this.#over.signal.aborted) return;
    this.#over.abort();
    const { log, strangersLog } = this.#options;
    (this.#loggedIn ? log : strangersLog).info("connection ended", { reason: printable(reason) });
    this.#forget();
    this.#tunnel?.destroy();
  }
}
