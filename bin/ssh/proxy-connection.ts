import { connect, type Socket } from "node:net";
import { READY_KEYWORD, REFUSED_KEYWORD, TICKET_KEYWORD } from "../../forwarder/opening.ts";

/** A way to a VM's own sshd, and the host key that its forwarder names. */
export interface ProxyConnection {
  readonly socket: Socket;
  readonly hostKey: string;
}

/** The forwarder did not let the connection through; `message` says why. */
export class ProxyRefused extends Error {}

const MAX_ANSWER_BYTES = 8_192;

/** Opens an end-to-end connection through a forwarder. Everything read from the socket afterwards is the VM's. */
export function openProxyConnection(host: string, port: number, ticket: string, publicKey: string): Promise<ProxyConnection> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true });
    let read = Buffer.alloc(0);
    const fail = (error: Error) => {
      socket.destroy();
      reject(error);
    };
    const gone = () => fail(new ProxyRefused("The SSH gateway closed the connection."));
    const onData = (chunk: Buffer) => {
      read = Buffer.concat([read, chunk]);
      const answer = readAnswer(read);
      if (answer === null) {
        if (read.length > MAX_ANSWER_BYTES) fail(new ProxyRefused("The SSH gateway answered something unknown."));
        return;
      }
      socket.off("data", onData).off("error", fail).off("close", gone).pause();
      if (answer.rest.length > 0) socket.unshift(answer.rest);
      if (answer.hostKey === null) fail(new ProxyRefused(answer.message));
      else resolve({ socket, hostKey: answer.hostKey });
    };
    socket.on("data", onData).on("error", fail).on("close", gone);
    socket.write(`${TICKET_KEYWORD} ${ticket} ${publicKey}\n`);
  });
}

/** The forwarder's answer, once it is whole. It is preceded by the identification that is meant for ordinary clients. */
function readAnswer(read: Buffer): { hostKey: string | null; message: string; rest: Buffer } | null {
  for (let at = 0; ; ) {
    const end = read.indexOf(10, at);
    if (end === -1) return null;
    const line = read.toString("utf8", at, end).trimEnd();
    const rest = read.subarray(end + 1);
    if (line.startsWith(`${READY_KEYWORD} `)) return { hostKey: line.slice(READY_KEYWORD.length + 1), message: "", rest };
    if (line.startsWith(`${REFUSED_KEYWORD} `)) return { hostKey: null, message: line.slice(REFUSED_KEYWORD.length + 1), rest };
    at = end + 1;
  }
}
