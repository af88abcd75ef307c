import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import ssh2 from "ssh2";
import { attachLeg, type PacketLeg } from "../forwarder/packet-leg.ts";
import { string, uint32 } from "../forwarder/ssh-wire.ts";
import { GcmSealer } from "../forwarder/ssh2-gcm.ts";

/** A login of ours that says what it likes. */
export interface Session {
  readonly client: ssh2.Client;
  readonly leg: PacketLeg;
  readonly socket: Socket;
  /** The VM's number of the first channel, once it is open. */
  readonly opened: Promise<number>;
}

/** Logs in by a token in the user name. */
export async function login(host: string, port: number, vmId: string, token: string): Promise<Session> {
  const client = new ssh2.Client();
  const socket = connect({ host, port });
  const ready = once(client, "ready");
  client.connect({ sock: socket, username: `${vmId},${token}`, authHandler: ["none"], readyTimeout: 60_000 });
  const confirmed = Promise.withResolvers<number>();
  const leg = attachLeg(client, socket, ({ payload }) => {
    if (payload[0] === 91) confirmed.resolve(Buffer.from(payload).readUInt32BE(5));
  });
  await ready;
  client.on("error", () => undefined);
  return { client, leg, socket, opened: confirmed.promise };
}

/** Opens a channel with a window of four gigabytes and runs a command in it. */
export async function execute({ leg, opened }: Session, command: string): Promise<void> {
  leg.send(Buffer.concat([Buffer.of(90), string("session"), uint32(0), uint32(0xffffffff), uint32(0xffffffff)]));
  const channel = await opened;
  leg.send(Buffer.concat([Buffer.of(98), uint32(channel), string("exec"), Buffer.of(0), string(command)]));
}

/** The same payload many times as it goes over the wire, for the session's socket. Nothing may be sent otherwise after it. */
export function sealMany({ client }: Session, payload: Uint8Array, count: number): Buffer {
  const cipher: unknown = Reflect.get(Reflect.get(client, "_protocol"), "_cipher");
  const sealer = typeof cipher === "object" && cipher !== null ? GcmSealer.of(cipher) : null;
  if (sealer === null) throw new Error("the session is not under AES-GCM");
  const padding = 16 + ((16 - ((1 + payload.length) % 16)) % 16);
  const plaintext = Buffer.concat([Buffer.of(padding), payload, Buffer.alloc(padding)]);
  const packets: Uint8Array[] = [];
  for (let sealed = 0; sealed < count; sealed += 1) sealer.send([plaintext], (bytes) => packets.push(bytes));
  return Buffer.concat(packets);
}

/** Resident memory once it has stopped changing: the garbage of logins is gone. */
export async function settledKib(pid: number): Promise<number> {
  let last = residentKib(pid);
  for (let same = 0; same < 5; ) {
    await pause(500);
    const now = residentKib(pid);
    same = Math.abs(now - last) < 256 ? same + 1 : 0;
    last = now;
  }
  return last;
}

export function residentKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
