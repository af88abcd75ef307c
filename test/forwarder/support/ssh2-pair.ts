import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import ssh2 from "ssh2";
import type { Packet } from "../../../forwarder/packet.ts";
import { attachLeg, type PacketLeg, socketOf } from "../../../forwarder/packet-leg.ts";
import { Ssh2Moved } from "../../../forwarder/ssh2-moved.ts";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../../service/ssh-keys.ts";

/** Two ends of one real ssh2 connection, both hooked. */
export interface Pair {
  readonly server: PacketLeg;
  readonly client: PacketLeg;
  readonly serverSsh: ssh2.Connection;
  readonly clientSsh: ssh2.Client;
  /** Payloads that came. */
  readonly atServer: Buffer[];
  readonly atClient: Buffer[];
  readonly serverSocket: Socket;
  /** What is done with a packet at the server once its payload is noted. */
  onServerPacket: (packet: Packet) => void;
  close(): void;
}

const hostKey = generateSshKeyPair(platformRandomBytes).privateKey;

/** Connects two ends whose login is done. */
export async function connectPair(algorithms: ssh2.Algorithms = {}): Promise<Pair> {
  const atServer: Buffer[] = [];
  const atClient: Buffer[] = [];
  const sshServer = new ssh2.Server({ hostKeys: [hostKey], algorithms });
  const listener = createServer((socket) => sshServer.injectSocket(socket));
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const then: { do: (packet: Packet) => void } = { do: () => undefined };
  const identified = new Promise<{ leg: PacketLeg; ssh: ssh2.Connection; socket: Socket }>((resolve, reject) => {
    sshServer.on("connection", (ssh) => {
      const socket = socketOf(ssh);
      if (socket === null) {
        reject(new Ssh2Moved("no socket"));
        return;
      }
      ssh.on("authentication", (context) => context.accept());
      ssh.on("error", () => undefined);
      const leg = attachLeg(ssh, socket, (packet) => {
        atServer.push(Buffer.from(packet.payload));
        then.do(packet);
      });
      resolve({ leg, ssh, socket });
    });
  });
  const clientSsh = new ssh2.Client();
  clientSsh.on("error", () => undefined);
  const socket = connect((listener.address() as AddressInfo).port, "127.0.0.1");
  const ready = once(clientSsh, "ready");
  clientSsh.connect({ sock: socket, username: "anyone", authHandler: ["none"], algorithms });
  const client = attachLeg(clientSsh, socket, ({ payload }) => atClient.push(Buffer.from(payload)));
  await ready;
  const { leg, ssh, socket: serverSocket } = await identified;
  const close = () => {
    socket.destroy();
    serverSocket.destroy();
    listener.close();
  };
  return {
    server: leg,
    client,
    serverSsh: ssh,
    clientSsh,
    atServer,
    atClient,
    serverSocket,
    set onServerPacket(what: (packet: Packet) => void) {
      then.do = what;
    },
    close,
  };
}
