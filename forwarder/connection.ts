import type ssh2 from "ssh2";
import type { Clock, RandomBytes } from "../protocol/bytes.ts";
import type { FailureKind, Result } from "../protocol/failures.ts";
import type { Log } from "../service/log.ts";
import { generateSshKeyPair } from "../service/ssh-keys.ts";
import type { Admission } from "./admission.ts";
import type { Connection, ConnectionOptions } from "./connection-options.ts";
import { type HostKeyRing, PROVE_HOST_KEYS } from "./host-key-proof.ts";
import { type Attempt, LoginAttempts } from "./login.ts";
import type { Packet } from "./packet.ts";
import { attachLeg, type PacketLeg } from "./packet-leg.ts";
import { Splice, type SpliceLimits } from "./splice.ts";
import {
  bannerMessage,
  DISCONNECT_REASON,
  type DisconnectReason,
  debugMessage,
  disconnectMessage,
  globalRequestName,
  ignoreMessage,
  requestFailureMessage,
  SSH_MESSAGE,
  wantsGlobalReply,
} from "./ssh-messages.ts";
import { settle } from "./ssh2-after-login.ts";
import { proofContext, rekey } from "./ssh2-handshake.ts";
import { loginToVm } from "./target.ts";
import { printable } from "./text.ts";
import { openTunnel, type Tunnel } from "./tunnel.ts";
import { type TunnelName, tellTyped, whyTunnelEnded } from "./tunnel-name.ts";
import { TypedInput } from "./typed-input.ts";
import { Upkeep, type UpkeepLimits } from "./upkeep.ts";

export interface ClientConnectionOptions extends ConnectionOptions {
  readonly ssh: ssh2.Connection;
  readonly maxAttempts: number;
  readonly hostKeys: HostKeyRing;
  readonly spliceLimits: SpliceLimits;
  readonly upkeepLimits: UpkeepLimits & { readonly wakingKeepaliveMs: number };
  readonly randomBytes: RandomBytes;
  readonly clock: Clock;
}

/** A client asks once, for the keys it has not seen; each signature costs the forwarder more than the question cost it. */
const MAX_HOST_KEY_PROOFS = 16;

/** As OpenSSH (`keepalive@openssh.com`), libssh2, paramiko, JSch and others name what only asks whether anybody is there. */
const KEEPALIVE = "keepalive@";

/** Signs of life asked for while the VM owes the client an older answer. OpenSSH leaves after three. */
const MAX_WAITING_ANSWERS = 64;

const STALE: ReadonlySet<FailureKind> = new Set(["stale-epoch", "stale-authority"]);
const LED_ASTRAY: ReadonlySet<FailureKind> = new Set(["vm-not-found", "host-unavailable", "ticket-refused"]);

// Programs that answer for a person look for "assword".
const CREDENTIAL_PROMPT = "Password (access token): ";

/**
 * One client connection from its identification string to its end. The login is decided by token or ticket alone and ends
 * at once; the VM wakes behind it while the client's packets wait. When one side goes, so does the other.
 */
export class ClientConnection implements Connection {
  readonly #options: ClientConnectionOptions;
  readonly #client: PacketLeg;
  readonly #splice: Splice;
  readonly #attempts: LoginAttempts;
  readonly #upkeep: Upkeep;
  readonly #over = new AbortController();
  readonly #typedInput = new TypedInput();
  #typedAt = Number.NEGATIVE_INFINITY;
  #tunnel: TunnelName | null = null;
  #target: PacketLeg | null = null;
  #admission: Admission | null = null;
  #loggedIn = false;
  #hostKeyProofs = 0;
  #deciding: Promise<void> = Promise.resolve();
  #forget: () => void = () => undefined;

  constructor(options: ClientConnectionOptions) {
    this.#options = options;
    const { ssh, socket, admitter, address, metrics } = options;
    this.#client = attachLeg(ssh, socket, (packet) => this.#fromClient(packet));
    this.#splice = new Splice(this.#client, options.spliceLimits);
    this.#upkeep = new Upkeep(
      options.upkeepLimits,
      { rekey: () => this.#rekey(), keepAlive: () => this.#keepAlive() },
      options.clock,
    );
    this.#attempts = new LoginAttempts(async (login, secret) => {
      const caller = { login: { vmId: login.vmId, linuxUser: login.linuxUser }, address };
      const admitted = await admitter.admit(caller, secret, this.#over.signal);
      metrics.logins({ mode: "ssh", outcome: admitted.ok ? "ok" : admitted.failure.kind });
      return admitted;
    }, options.maxAttempts);
    ssh.on("error", (error) => this.#log.info("client connection failed", { error: printable(error.message) }));
    ssh.on("authentication", (context) => this.#authenticate(context));
    ssh.on("ready", () => this.#ready());
    ssh.on("close", () => this.#client.onceRead(() => this.#closed()));
  }

  /** Ends the connection for a reason that is shown to the person. Safe to call at any time. */
  end(text: string, reason: DisconnectReason = DISCONNECT_REASON.BY_APPLICATION): void {
    if (this.#over.signal.aborted) return;
    this.#log.info("connection ended", { reason: text });
    this.#client.sendNow(disconnectMessage(reason, printable(text)));
    this.#client.close(this.#options.times.closeLingerMs);
    this.#release();
  }

  /** Tells a client that shows such messages that something is about to happen. */
  notify(text: string): void {
    if (this.#loggedIn) this.#client.send(debugMessage(printable(text)));
  }

  get loggedIn(): boolean {
    return this.#loggedIn;
  }

  get #log(): Log {
    return this.#loggedIn ? this.#options.log : this.#options.strangersLog;
  }

  #authenticate(context: ssh2.AuthContext): void {
    const user = context.username;
    if (context.method === "keyboard-interactive" && this.#attempts.needsAnswer(user)) {
      context.prompt([{ prompt: CREDENTIAL_PROMPT, echo: false }], (answers: unknown) => {
        // An error instead of answers: the client began another request.
        const secret: unknown = Array.isArray(answers) ? answers[0] : undefined;
        if (Array.isArray(answers)) this.#enqueue(context, { user, method: "keyboard-interactive", secret: textOf(secret) });
      });
      return;
    }
    if (context.method === "password") this.#enqueue(context, { user, method: "password", secret: textOf(context.password) });
    else if (context.method === "keyboard-interactive") this.#enqueue(context, { user, method: context.method, secret: "" });
    else this.#enqueue(context, { user, method: context.method === "none" ? "none" : "other" });
  }

  #enqueue(context: ssh2.AuthContext, attempt: Attempt): void {
    this.#deciding = this.#deciding
      .then(() => this.#decide(context, attempt))
      .catch((error: unknown) => {
        this.#log.error("login failed on our side", { error: error instanceof Error ? error.message : "unknown" });
        this.end("The login failed on our side. Try again in a moment.", DISCONNECT_REASON.SERVICE_NOT_AVAILABLE);
      });
  }

  async #decide(context: ssh2.AuthContext, attempt: Attempt): Promise<void> {
    if (this.#over.signal.aborted || this.#loggedIn) return;
    const step = await this.#attempts.decide(attempt);
    if (this.#over.signal.aborted || this.#loggedIn) return;
    if (step.action === "disconnect") {
      this.end(step.text, DISCONNECT_REASON.NO_MORE_AUTH_METHODS);
      return;
    }
    if (step.action === "accept") {
      this.#admission = step.admission;
      // Takes effect, and emits "ready", only if the client has not begun another request meanwhile.
      context.accept();
      return;
    }
    if (step.banner !== null) this.#client.send(bannerMessage(step.banner));
    context.reject([...step.methods]);
  }

  #ready(): void {
    const admission = this.#admission;
    if (admission === null) {
      this.end("The login failed on our side.", DISCONNECT_REASON.PROTOCOL_ERROR);
      return;
    }
    this.#loggedIn = true;
    this.#client.loggedIn();
    const { vm, user, sub, cred, jti } = admission.claims;
    this.#log.info("logged in", { vm, user, sub, credential: cred, ticket: jti });
    this.#options.onLogin();
    settle(this.#options.ssh, null);
    this.#client.send(this.#options.hostKeys.announcement);
    this.#startUpkeep();
    const { sessions, id, address } = this.#options;
    this.#forget = sessions.add({ id, claims: admission.claims, address, end: (text) => this.end(text) });
    this.#admission = null;
    const waiting = this.#giveSignsOfLife();
    const connected = this.#connectToVm(admission).finally(waiting);
    connected.catch((error: unknown) => {
      this.#log.error("connecting to the VM failed", { error: error instanceof Error ? error.message : "unknown" });
      this.end("Connecting to the VM failed on our side. Try again in a moment.", DISCONNECT_REASON.SERVICE_NOT_AVAILABLE);
    });
  }

  async #connectToVm(admission: Admission): Promise<void> {
    const key = generateSshKeyPair(this.#options.randomBytes);
    const opened = await this.#openTunnel(admission, key.publicKey);
    if (!opened.ok) {
      this.#refuse(opened);
      return;
    }
    const { socket, hostUrl, id } = opened.value;
    this.#tunnel = { hostUrl, id };
    if (this.#over.signal.aborted) {
      socket.destroy();
      return;
    }
    const abandon = () => socket.destroy();
    this.#over.signal.addEventListener("abort", abandon);
    const target = await loginToVm({
      tunnel: opened.value,
      key,
      linuxUser: admission.claims.user,
      loginTimeoutMs: this.#options.times.targetLoginTimeoutMs,
      onReady: (leg) => {
        this.#over.signal.removeEventListener("abort", abandon);
        this.#target = leg;
        this.#splice.join(leg);
      },
      onPacket: (packet) => this.#fromVm(packet),
      onClose: (reason) => void this.#lostVm(reason, { hostUrl, id }),
    });
    if (!target.ok) this.#refuse(target);
  }

  /**
   * A ticket that the host calls stale is replaced once: the edge may have answered from a cache. So is one of an earlier
   * login that leads nowhere: the VM may have gone to another host since.
   */
  async #openTunnel(admission: Admission, publicKey: string): Promise<Result<Tunnel>> {
    const { signal } = this.#over;
    const open = ({ claims, ticket }: Admission) =>
      openTunnel({ hostUrl: claims.host_url, vmId: claims.vm, ticket, publicKey }, this.#options.times, signal);
    const opened = await open(admission);
    this.#options.metrics.tunnels({ outcome: opened.ok ? "ok" : opened.failure.kind });
    if (opened.ok || admission.renew === null || signal.aborted) return opened;
    const { kind } = opened.failure;
    if (!STALE.has(kind) && !(admission.reused && LED_ASTRAY.has(kind))) return opened;
    const renewed = await admission.renew(signal);
    return renewed.ok ? open(renewed.value) : renewed;
  }

  #fromClient(packet: Packet): void {
    if (!this.#loggedIn) {
      this.end("Log in first.", DISCONNECT_REASON.PROTOCOL_ERROR);
      return;
    }
    this.#options.metrics.bytesUp += packet.length;
    this.#upkeep.received(packet.length);
    const request = packet.type === SSH_MESSAGE.GLOBAL_REQUEST ? globalRequestName(packet.payload) : null;
    if (request === PROVE_HOST_KEYS) this.#proveHostKeys(packet.payload);
    else if (request?.startsWith(KEEPALIVE)) this.#answerKeepalive(packet.payload);
    else {
      if (this.#typedInput.isTyped(packet)) this.#noteTyped();
      this.#splice.fromClient(packet);
    }
  }

  #noteTyped(): void {
    const { clock, times } = this.#options;
    if (this.#tunnel === null || clock() - this.#typedAt < times.typedNoteMs) return;
    this.#typedAt = clock();
    void tellTyped(this.#tunnel, times.hostConnectTimeoutMs);
  }

  /**
   * In the VM's place and with its sshd's words, which knows no such request: a VM that sleeps could not answer, and one that
   * got it would be woken by it.
   */
  #answerKeepalive(request: Uint8Array): void {
    if (!wantsGlobalReply(request)) return;
    if (this.#splice.waitingAnswers >= MAX_WAITING_ANSWERS) this.end("The VM has not answered for too long.");
    else this.#splice.answer(requestFailureMessage());
  }

  #fromVm(packet: Packet): void {
    this.#options.metrics.bytesDown += packet.length;
    this.#splice.fromTarget(packet);
    this.#upkeep.sent(packet.length);
  }

  #startUpkeep(): void {
    const { rekeyMs, keepaliveMs } = this.#options.upkeepLimits;
    const timer = setInterval(() => this.#upkeep.tick(), Math.min(rekeyMs, keepaliveMs) / 2);
    this.#over.signal.addEventListener("abort", () => clearInterval(timer));
  }

  /**
   * While the VM wakes nobody answers what the client asks to see whether the server is alive (OpenSSH's ServerAliveInterval):
   * it takes any message for a sign of life. Call the answer when the VM is there.
   */
  #giveSignsOfLife(): () => void {
    const timer = setInterval(() => this.#keepAlive(), this.#options.upkeepLimits.wakingKeepaliveMs);
    const stop = () => clearInterval(timer);
    this.#over.signal.addEventListener("abort", stop);
    return stop;
  }

  #rekey(): void {
    if (this.#over.signal.aborted) return;
    this.#options.metrics.rekeys();
    rekey(this.#options.ssh);
  }

  #keepAlive(): void {
    this.#client.send(ignoreMessage());
  }

  #proveHostKeys(request: Uint8Array): void {
    this.#hostKeyProofs += 1;
    if (this.#hostKeyProofs > MAX_HOST_KEY_PROOFS) {
      this.end("Too many requests to prove host keys.", DISCONNECT_REASON.PROTOCOL_ERROR);
      return;
    }
    this.#splice.answer(this.#options.hostKeys.prove(request, proofContext(this.#options.ssh)));
  }

  #refuse({ failure }: Extract<Result<never>, { ok: false }>): void {
    if (this.#over.signal.aborted) return;
    const text = printable(failure.message);
    this.#log.info("the VM was not reached", { reason: failure.kind });
    this.#splice.refuse(text);
    // Most clients leave once their channels are refused; whoever stays, or opened none, is told here.
    const timer = setTimeout(() => this.end(text, DISCONNECT_REASON.SERVICE_NOT_AVAILABLE), this.#options.times.closeLingerMs);
    this.#over.signal.addEventListener("abort", () => clearTimeout(timer));
  }

  async #lostVm(reason: string | null, tunnel: TunnelName): Promise<void> {
    if (this.#over.signal.aborted) return;
    this.#log.info("the VM's connection closed", { reason: reason === null ? null : printable(reason) });
    const why = await whyTunnelEnded(tunnel, this.#options.times.hostConnectTimeoutMs);
    this.end(why, DISCONNECT_REASON.CONNECTION_LOST);
  }

  #closed(): void {
    if (this.#over.signal.aborted) return;
    this.#log.info("client left");
    this.#release();
  }

  #release(): void {
    this.#over.abort();
    this.#forget();
    // Without a farewell, whose bytes would wake a VM that sleeps: its sshd takes the end of the connection for one.
    this.#target?.close(this.#options.times.closeLingerMs);
  }
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
