import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

/** Where a guest's sshd listens. */
export interface SshAddress {
  readonly host: string;
  readonly port: number;
}

export interface ReadyLimits {
  /** Whole time, in milliseconds, that the sshd has to answer. */
  readonly timeoutMs: number;
  /** Wait between two looks, in milliseconds. */
  readonly pollMs: number;
}

/** Waits until a guest's sshd sends its identification (RFC 4253 section 4.2). False: it did not in time. */
export async function sshdAnswers(address: SshAddress, limits: ReadyLimits): Promise<boolean> {
  const deadline = performance.now() + limits.timeoutMs;
  for (;;) {
    const left = deadline - performance.now();
    if (left <= 0) return false;
    if (await sendsIdentification(address, Math.min(left, 1_000 + limits.pollMs), left / 2)) return true;
    await delay(limits.pollMs);
  }
}

/**
 * `connectMs`: until the connection stands. Then the guest is there, and its sshd may be slow where many guests share a
 * processor: giving up early would only make it begin again, so `greetMs` is long.
 */
function sendsIdentification(address: SshAddress, connectMs: number, greetMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address);
    const done = (answers: boolean) => {
      socket.destroy();
      resolve(answers);
    };
    socket.setTimeout(connectMs, () => done(false));
    socket.once("connect", () => socket.setTimeout(Math.max(connectMs, greetMs)));
    socket.once("data", (data) => done(data.toString("latin1").startsWith("SSH-2.0-")));
    socket.once("error", () => done(false));
    socket.once("close", () => done(false));
  });
}
