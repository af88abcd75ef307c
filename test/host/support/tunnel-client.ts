import { createConnection, type Socket } from "node:net";
import { Client, type ClientChannel } from "ssh2";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import type { TicketClaims } from "../../../protocol/ticket.ts";
import { generateSshKeyPair, parseSshPublicKey, type SshKeyPair } from "../../../service/ssh-keys.ts";
import type { TestHost } from "./test-host.ts";
import { until } from "./until.ts";

/** A host's answer to a CONNECT, and the tunnel where it was 200. */
export interface TunnelAnswer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
  readonly socket: Socket;
}

export const newPair = (): SshKeyPair => generateSshKeyPair(platformRandomBytes);

/** Sends a CONNECT as root of `vm` unless `claims` say otherwise, and reads the answer's head; `early` goes right behind it. */
export async function connectTunnel(
  host: TestHost,
  vm: string,
  claims: Partial<TicketClaims>,
  keyLine: string | null,
  target = `${vm}:22`,
  early = "",
): Promise<TunnelAnswer> {
  const ticket = await host.edge.ticket(host.agent.id, { vm, op: "ssh", user: "root", ...claims });
  const { hostname, port } = new URL(host.agent.url);
  const socket = createConnection({ host: hostname, port: Number(port), allowHalfOpen: true });
  socket.on("error", () => undefined);
  const key = keyLine === null ? "" : `postern-ssh-key: ${keyLine}\r\n`;
  socket.write(`CONNECT ${target} HTTP/1.1\r\nhost: ${target}\r\nproxy-authorization: Bearer ${ticket}\r\n${key}\r\n${early}`);
  let text = "";
  while (!text.includes("\r\n\r\n")) {
    const chunk: Buffer | null = socket.read();
    if (chunk !== null) text += chunk.toString("latin1");
    else if (socket.readableEnded) throw new Error(`no answer: ${text}`);
    else await new Promise((resolve) => socket.once("readable", resolve));
  }
  const [head = "", ...rest] = text.split("\r\n\r\n");
  const [statusLine = "", ...lines] = head.split("\r\n");
  let body = rest.join("\r\n\r\n");
  const status = Number(statusLine.split(" ")[1]);
  if (status === 200) socket.unshift(Buffer.from(body, "latin1"));
  else for await (const chunk of socket) body += String(chunk);
  const headers = Object.fromEntries(lines.map((line) => line.split(/: (.*)/, 2) as [string, string]));
  return { status, headers, body, socket };
}

/** Logs in at the VM's sshd through a tunnel, which must show the host key that the host named. */
export function logIn(answer: TunnelAnswer, pair: SshKeyPair, username: string): Promise<Client> {
  const client = new Client();
  return new Promise((resolve, reject) => {
    client.on("ready", () => resolve(client));
    client.on("error", reject);
    client.connect({
      sock: answer.socket,
      username,
      privateKey: pair.privateKey,
      hostVerifier: (key: Buffer) => parseSshPublicKey(answer.headers["postern-host-key"] ?? "")?.blob.equals(key) === true,
    });
  });
}

export function runCommand(client: Client, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    client.exec(command, (error, channel) => {
      if (error) return reject(error);
      let text = "";
      channel.on("data", (data: Buffer) => {
        text += data.toString();
      });
      channel.on("close", () => resolve(text));
    });
  });
}

/** A shell that is typed into. */
export class TypedShell {
  readonly #channel: ClientChannel;
  #output = "";

  private constructor(channel: ClientChannel) {
    this.#channel = channel;
    channel.on("data", (data: Buffer) => {
      this.#output += data.toString();
    });
  }

  static open(client: Client): Promise<TypedShell> {
    return new Promise((resolve, reject) => {
      client.shell({}, (error, channel) => (error ? reject(error) : resolve(new TypedShell(channel))));
    });
  }

  type(text: string): void {
    this.#channel.write(text);
  }

  /** Waits for output that matches, and answers the first group. */
  async shows(pattern: RegExp): Promise<string> {
    await until(() => pattern.test(this.#output), `the shell shows ${pattern}`);
    return pattern.exec(this.#output)?.[1] ?? "";
  }
}
