import { readFile } from "node:fs/promises";
import { isIPv4, type Socket } from "node:net";
import { endianness } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { SingleFlight } from "./wake.ts";

const POLL_MS = 10;

/** One look serves every tunnel of a machine that falls asleep. A table that cannot be read now keeps no machine awake. */
const connections = new SingleFlight<string>();
const readTable = () => readFile("/proc/net/tcp", "latin1").catch(() => "");

/**
 * Resolves when the peer of an IPv4 socket has acknowledged everything that was written to it, when the socket is gone, or
 * after `timeoutMs`. Of any other socket: when everything has left this process.
 */
export async function acknowledged(socket: Socket, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!socket.destroyed && performance.now() < deadline) {
    if (socket.writableLength === 0 && (await kernelHolds(socket)) === 0) return;
    await delay(POLL_MS);
  }
}

/** Bytes that the kernel has of a socket and its peer has not acknowledged (proc(5), `/proc/net/tcp`, `tx_queue`). */
async function kernelHolds({ localAddress, localPort, remoteAddress, remotePort }: Socket): Promise<number> {
  if (!isIPv4(localAddress ?? "") || !isIPv4(remoteAddress ?? "")) return 0;
  return unacknowledgedIn(
    await connections.run(readTable),
    endOf(localAddress ?? "", localPort ?? 0),
    endOf(remoteAddress ?? "", remotePort ?? 0),
  );
}

/** Reads `tx_queue` of one connection out of the text of `/proc/net/tcp`; 0 when the connection is not in it. */
export function unacknowledgedIn(table: string, local: string, remote: string): number {
  const queues = new RegExp(`: ${local} ${remote} [0-9A-F]{2} ([0-9A-F]{8}):`).exec(table)?.[1];
  return queues === undefined ? 0 : Number.parseInt(queues, 16);
}

/** An IPv4 address and port as `/proc/net/tcp` writes them: the address as a number of the machine's own byte order. */
export function endOf(address: string, port: number): string {
  const bytes = Buffer.from(address.split(".").map(Number));
  const word = endianness() === "LE" ? bytes.readUInt32LE(0) : bytes.readUInt32BE(0);
  return `${word.toString(16).padStart(8, "0")}:${port.toString(16).padStart(4, "0")}`.toUpperCase();
}
