import { type ForwarderState, openForwarderState, rotateHostKeys } from "../forwarder/host-keys.ts";
import { platformRandomBytes } from "../protocol/bytes.ts";
import { homeFromEnvironment } from "./start/home.ts";
import { UsageError } from "./usage.ts";

const USAGE = `postern host-keys           the public lines of the forwarder's host keys, those in use and the next ones
postern host-keys rotate    put the next keys in use and make new next ones; restart the forwarder after it

The forwarder's state folder is POSTERN_FORWARDER_STATE, else that of the system in POSTERN_HOME.`;

/** `postern host-keys …`: prints known_hosts lines without the host name, each with what it is as its comment. */
export async function runHostKeys(args: readonly string[], env: NodeJS.ProcessEnv, say: (text: string) => void): Promise<void> {
  const folder = env.POSTERN_FORWARDER_STATE ?? homeFromEnvironment(env).forwarderState;
  const [action = "show", ...rest] = args;
  if (rest.length > 0 || (action !== "show" && action !== "rotate")) throw new UsageError(USAGE);
  const open = action === "rotate" ? rotateHostKeys : openForwarderState;
  say(describe(await open(folder, platformRandomBytes)));
}

function describe({ publicHostKeys, nextPublicHostKeys }: ForwarderState): string {
  return [...publicHostKeys.map((line) => `${line} in-use`), ...nextPublicHostKeys.map((line) => `${line} next`)].join("\n");
}
