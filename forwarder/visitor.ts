import type { Socket } from "node:net";
import type ssh2 from "ssh2";
import type { Clock, RandomBytes } from "../protocol/bytes.ts";
import { newObjectName } from "../protocol/ids.ts";
import type { Log } from "../service/log.ts";
import type { Admitter } from "./admission.ts";
import { ClientConnection } from "./connection.ts";
import type { Connection, ConnectionOptions } from "./connection-options.ts";
import { EndToEndConnection } from "./end-to-end.ts";
import { type FirstKexinit, readFirstKexinit } from "./first-kexinit.ts";
import type { ForwarderMetrics } from "./forwarder-metrics.ts";
import type { HostKeyRing } from "./host-key-proof.ts";
import { type ConnectionGate, type Place, plainAddress } from "./limits.ts";
import { readOpening } from "./opening.ts";
import { readProxyHeader } from "./proxy-protocol.ts";
import type { SessionRegister } from "./session-register.ts";
import type { ForwarderSettings } from "./settings.ts";
import { SOFTWARE, type SshServers } from "./ssh-servers.ts";
import { injectIdentified } from "./ssh2-handshake.ts";

/** What all connections of a forwarder share. */
export interface VisitorServices {
  readonly settings: ForwarderSettings;
  readonly gate: ConnectionGate;
  readonly ssh: SshServers;
  readonly admitter: Admitter;
  readonly sessions: SessionRegister;
  readonly hostKeys: HostKeyRing;
  readonly metrics: ForwarderMetrics;
  readonly randomBytes: RandomBytes;
  readonly clock: Clock;
  readonly log: Log;
  /** For what strangers can have written as often as they like. */
  readonly strangersLog: Log;
}

const IDENTIFICATION = Buffer.from(`SSH-2.0-${SOFTWARE}\r\n`);

const NOTHING = Buffer.alloc(0);

/**
 * One accepted socket until it is gone: an optional PROXY header, a place at the gate, its first line, then the connection
 * that the line asks for. All of it before the login is under one grace timer.
 */
export class Visitor {
  readonly #socket: Socket;
  readonly #services: VisitorServices;
  readonly #id: string;
  readonly #grace: NodeJS.Timeout;
  #address: string;
  #place: Place | null = null;
  #read = NOTHING;
  #kexinitWait: NodeJS.Timeout | undefined;
  #connection: Connection | null = null;

  constructor(socket: Socket, services: VisitorServices) {
    this.#socket = socket;
    this.#services = services;
    this.#id = newObjectName(services.randomBytes);
    this.#address = plainAddress(socket.remoteAddress ?? "unknown");
    this.#grace = setTimeout(() => this.#graceOver(), services.settings.POSTERN_SSH_LOGIN_GRACE_MS);
    socket.on("close", () => {
      clearTimeout(this.#grace);
      clearTimeout(this.#kexinitWait);
      this.#place?.release();
    });
    // Whoever reads the socket later hears of errors too; until then a broken peer is just gone.
    socket.on("error", () => undefined);
    const proxied = services.settings.POSTERN_SSH_PROXIES.has(this.#address);
    if (!proxied && !this.#takePlace()) return;
    // At once: some clients wait for it before they say anything.
    socket.write(IDENTIFICATION);
    socket.on("data", proxied ? this.#onProxyData : this.#onOpeningData);
  }

  get loggedIn(): boolean {
    return this.#connection?.loggedIn === true;
  }

  /** The SSH server has heard an identification from it. */
  identified(ssh: ssh2.Connection): void {
    const { settings, hostKeys, randomBytes, clock } = this.#services;
    this.#connection = new ClientConnection({
      ...this.#common(),
      ssh,
      hostKeys,
      randomBytes,
      clock,
      upkeepLimits: {
        rekeyBytes: settings.POSTERN_SSH_REKEY_BYTES,
        rekeyMs: settings.POSTERN_SSH_REKEY_MS,
        keepaliveMs: settings.POSTERN_SSH_KEEPALIVE_MS,
        wakingKeepaliveMs: settings.POSTERN_SSH_WAKING_KEEPALIVE_MS,
      },
      maxAttempts: settings.POSTERN_SSH_MAX_ATTEMPTS,
      spliceLimits: {
        wakeQueueBytes: settings.POSTERN_WAKE_QUEUE_BYTES,
        highWaterBytes: settings.POSTERN_SPLICE_HIGH_WATER_BYTES,
      },
    });
  }

  notify(text: string): void {
    this.#connection?.notify(text);
  }

  end(text: string): void {
    if (this.#connection === null) this.#socket.destroy();
    else this.#connection.end(text);
  }

  readonly #onProxyData = (chunk: Buffer): void => {
    this.#read = Buffer.concat([this.#read, chunk]);
    const header = readProxyHeader(this.#read);
    if (header.kind === "more") return;
    this.#socket.off("data", this.#onProxyData);
    if (header.kind === "refused") {
      this.#turnAway("proxy-header");
      return;
    }
    this.#address = header.address ?? this.#address;
    this.#read = NOTHING;
    if (!this.#takePlace()) return;
    this.#socket.on("data", this.#onOpeningData);
    if (header.rest.length > 0) this.#onOpeningData(header.rest);
  };

  readonly #onOpeningData = (chunk: Buffer): void => {
    this.#read = Buffer.concat([this.#read, chunk]);
    const opening = readOpening(this.#read);
    if (opening.kind === "more") return;
    this.#socket.off("data", this.#onOpeningData);
    switch (opening.kind) {
      case "refused":
        this.#turnAway(opening.reason);
        return;
      case "ticket":
        this.#read = NOTHING;
        this.#connection = new EndToEndConnection({ ...this.#common(), opening });
        return;
      case "ssh":
        if (this.#services.ssh.dependsOnKexinit(opening.identification)) this.#awaitKexinit();
        else this.#handOver(null);
        return;
    }
  };

  /** Its KEXINIT decides what ours offers. A client may send it only after ours (RFC 4253 section 7.1), so not for ever. */
  #awaitKexinit(): void {
    this.#kexinitWait = setTimeout(() => this.#handOver(null), this.#services.settings.POSTERN_SSH_KEXINIT_WAIT_MS);
    this.#socket.on("data", this.#onKexinitData);
    this.#onKexinitData(NOTHING);
  }

  readonly #onKexinitData = (chunk: Buffer): void => {
    if (chunk.length > 0) this.#read = Buffer.concat([this.#read, chunk]);
    const opening = readOpening(this.#read);
    const kexinit = opening.kind === "ssh" ? readFirstKexinit(opening.rest) : null;
    if (kexinit?.kind !== "more") this.#handOver(kexinit);
  };

  /** Gives the socket and all that was read of it to the SSH server that offers what suits the client. */
  #handOver(kexinit: FirstKexinit | null): void {
    clearTimeout(this.#kexinitWait);
    this.#socket.off("data", this.#onKexinitData);
    const read = this.#read;
    this.#read = NOTHING;
    // Gone already: nothing may be put back into it.
    if (!this.#socket.readable) return;
    this.#socket.pause();
    this.#socket.unshift(read);
    injectIdentified(this.#services.ssh.for(kexinit), this.#socket, IDENTIFICATION);
  }

  #common(): ConnectionOptions {
    const { settings, admitter, sessions, metrics, log, strangersLog } = this.#services;
    const about = { session: this.#id, client: this.#address };
    return {
      id: this.#id,
      socket: this.#socket,
      address: this.#address,
      admitter,
      sessions,
      metrics,
      times: {
        hostConnectTimeoutMs: settings.POSTERN_HOST_CONNECT_TIMEOUT_MS,
        wakeTimeoutMs: settings.POSTERN_WAKE_TIMEOUT_MS,
        targetLoginTimeoutMs: settings.POSTERN_TARGET_LOGIN_TIMEOUT_MS,
        closeLingerMs: settings.POSTERN_CLOSE_LINGER_MS,
        typedNoteMs: settings.POSTERN_SSH_TYPED_NOTE_MS,
      },
      log: log.child(about),
      strangersLog: strangersLog.child(about),
      onLogin: () => {
        clearTimeout(this.#grace);
        this.#place?.loggedIn();
      },
    };
  }

  #takePlace(): boolean {
    this.#place = this.#services.gate.admit(this.#address);
    if (this.#place === null) this.#turnAway("gate");
    return this.#place !== null;
  }

  #turnAway(reason: string): void {
    this.#services.metrics.turnedAway({ reason });
    this.#services.strangersLog.info("connection turned away", { session: this.#id, client: this.#address, reason });
    this.#socket.destroy();
  }

  #graceOver(): void {
    if (this.#connection === null) this.#turnAway("grace");
    else this.#connection.end("The login took too long.");
  }
}
