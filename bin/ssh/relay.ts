import { once } from "node:events";
import { connect } from "node:net";
import { UsageError } from "../usage.ts";
import { carry, type Streams } from "./streams.ts";

const USAGE = `postern ssh-relay <host> <port>

For ssh_config's ProxyCommand: leads to an SSH gateway whatever host name and port were asked for.`;

/** Carries ssh's own bytes between its standard streams and an address. Throws when nothing listens there. */
export async function runSshRelay(args: readonly string[], streams: Streams): Promise<void> {
  const [host, port, ...rest] = args;
  if (host === undefined || port === undefined || rest.length > 0) throw new UsageError(USAGE);
  const socket = connect({ host, port: Number(port), noDelay: true });
  await once(socket, "connect");
  await carry(socket, streams);
}
