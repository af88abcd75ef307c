import { isDeepStrictEqual } from "node:util";
import { MAX_FIRST_KEXINIT_BYTES, readFirstKexinit } from "../../../forwarder/first-kexinit.ts";
import { GcmOpener, sealPacket } from "../../../forwarder/gcm.ts";
import { ANNOUNCE_HOST_KEYS, HostKeyRing } from "../../../forwarder/host-key-proof.ts";
import { MAX_TICKET_LINE_BYTES, readOpening } from "../../../forwarder/opening.ts";
import { Packet } from "../../../forwarder/packet.ts";
import { MAX_PROXY_HEADER_BYTES, readProxyHeader } from "../../../forwarder/proxy-protocol.ts";
import { Splice } from "../../../forwarder/splice.ts";
import { globalRequestName } from "../../../forwarder/ssh-messages.ts";
import { isVmId } from "../../../protocol/ids.ts";
import { isLinuxUser } from "../../../protocol/linux-user.ts";
import { parseLogin } from "../../../protocol/login.ts";
import { checkTicket } from "../../../protocol/ticket.ts";
import { importMacKeys, parseCredential } from "../../../protocol/tokens.ts";
import { MemoryLeg } from "../../forwarder/support/memory-leg.ts";
import { AUDIENCE, goodClaims, ISSUER, NOW, newSigner, sign } from "../../protocol/support/tickets.ts";
import { corpus } from "./corpus.ts";

/** What is fuzzed: inputs to begin with, and what must hold for any. */
export interface Target {
  readonly seeds: readonly Buffer[];
  /** Throws when a promise is broken. */
  run(bytes: Buffer): void | Promise<void>;
}

function promise(kept: boolean, what: string): void {
  if (!kept) throw new Error(`broken: ${what}`);
}

function login(): Target {
  const run = (bytes: Buffer) => {
    const parsed = parseLogin(bytes.toString("utf8"));
    if (!parsed.ok) return;
    const { vmId, linuxUser } = parsed.login;
    promise(isVmId(vmId) && (linuxUser === null || isLinuxUser(linuxUser)), "a login has safe parts");
  };
  return { seeds: corpus("login"), run };
}

async function token(): Promise<Target> {
  const keys = await importMacKeys("dGVzdC1tYWMta2V5LW51bWJlci1vbmU");
  const run = async (bytes: Buffer) => {
    const text = bytes.toString("latin1");
    const parsed = await parseCredential(text, keys);
    promise(!parsed.ok || /^ps[a-z]_[a-z2-7]{46}$/.test(text), "a credential has the shape of one");
  };
  return { seeds: corpus("token"), run };
}

async function ticket(): Promise<Target> {
  const signer = await newSigner();
  const claims = goodClaims();
  const good = await sign(signer, claims);
  const run = async (bytes: Buffer) => {
    const text = bytes.toString("latin1");
    const checked = await checkTicket(text, { getKey: signer.getKey, issuer: ISSUER, audience: AUDIENCE, now: NOW });
    promise(!checked.ok || isDeepStrictEqual(checked.claims, claims), "only what was signed is read");
  };
  return { seeds: [Buffer.from(good, "latin1"), ...corpus("ticket")], run };
}

function opening(): Target {
  const run = (bytes: Buffer) => {
    promise(readOpening(bytes).kind !== "more" || bytes.length < MAX_TICKET_LINE_BYTES, "an opening is bounded");
    promise(readProxyHeader(bytes).kind !== "more" || bytes.length < MAX_PROXY_HEADER_BYTES, "a PROXY header is bounded");
    promise(readFirstKexinit(bytes).kind !== "more" || bytes.length < MAX_FIRST_KEXINIT_BYTES, "a first KEXINIT is bounded");
  };
  return { seeds: corpus("opening"), run };
}

/** Each input is one packet, from the client before and after the VM is there (or refused) and from the VM; its first byte decides which. */
function splice(): Target {
  const context = { sessionId: Buffer.alloc(32, 7), hostKeyAlgorithm: "ssh-ed25519" };
  const ring = new HostKeyRing([]);
  const run = (bytes: Buffer) => {
    const client = new MemoryLeg();
    const joint = new Splice(client, { wakeQueueBytes: 4_000, highWaterBytes: 400 });
    const from = bytes[0] ?? 0;
    const packet = bytes.subarray(1);
    if (packet.length === 0) return;
    joint.fromClient(Packet.ofPayload(packet));
    if (from & 1) joint.refuse("no VM");
    else joint.join(new MemoryLeg());
    joint.fromClient(Packet.ofPayload(packet));
    joint.fromTarget(Packet.ofPayload(packet));
    ring.prove(packet, context);
    const leaked = client.sent.some((payload) => globalRequestName(payload) === ANNOUNCE_HOST_KEYS);
    promise(!leaked, "the VM's host keys never reach a client");
  };
  return { seeds: [...corpus("packets").map((bytes) => Buffer.concat([Buffer.of(0), bytes])), ...corpus("splice")], run };
}

/** Ciphertext of strangers: nothing of it may come out as a packet. */
function ciphertext(): Target {
  const keys = () => ({ cipher: "aes-128-gcm" as const, key: Buffer.alloc(16, 7), iv: Buffer.alloc(12) });
  const sealed: Uint8Array[] = [];
  const plaintext = Buffer.alloc(64, 94).fill(4, 0, 1);
  sealPacket(keys(), [plaintext], (bytes) => sealed.push(bytes));
  const good = Buffer.concat(sealed);
  const run = (bytes: Buffer) => {
    const opener = new GcmOpener(keys(), (packet) => {
      promise(bytes.subarray(0, good.length).equals(good) && packet.length === 59, "only what was sealed is opened");
      return undefined;
    });
    try {
      for (let at = 0; at < bytes.length; at += 7) opener.decrypt(bytes, at, Math.min(bytes.length, at + 7));
    } catch (error) {
      if (error instanceof Error && error.message.startsWith("broken")) throw error;
    }
  };
  return { seeds: [good, ...corpus("ciphertext")], run };
}

/** A target of which it is known what guidance finds, and what it would hardly find without. */
function planted(): Target {
  const secret = Buffer.from("%=+,");
  const run = (bytes: Buffer) => {
    if (bytes[0] === secret[0]) if (bytes[1] === secret[1]) if (bytes[2] === secret[2]) promise(bytes[3] !== secret[3], "planted");
  };
  return { seeds: [Buffer.from("....")], run };
}

export const TARGETS: Readonly<Record<string, () => Target | Promise<Target>>> = {
  login,
  token,
  ticket,
  opening,
  splice,
  ciphertext,
  planted,
};
