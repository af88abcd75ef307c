import { readFileSync } from "node:fs";
import { z } from "zod";
import { isVmId } from "../../../protocol/ids.ts";
import { parseSshPublicKey } from "../../../service/ssh-keys.ts";
import { DriverError } from "../../driver.ts";

const machine = z.strictObject({
  /** The id that the VM will have: 20 lower-case letters and digits, chosen by the operator. */
  vmId: z.string().refine(isVmId, "must be 20 lower-case letters and digits"),
  /** Name or address at which the host agent reaches the machine's sshd. */
  address: z.string().min(1).max(253),
  port: z.int().min(1).max(65_535).default(22),
  /** The machine's `/etc/ssh/ssh_host_ed25519_key.pub`, without the comment; nothing else is ever talked to. */
  hostKey: z.string().refine((line) => parseSshPublicKey(line) !== null, "must be one `ssh-ed25519 <base64>` without a comment"),
  /** Command that wakes the machine when its sshd does not answer: program and arguments, run without a shell. */
  wake: z.array(z.string().min(1)).min(1).optional(),
});

const config = z.strictObject({ machines: z.array(machine).max(200) });

/** A machine that is there already, as the operator describes it. */
export type StaticMachine = Readonly<z.infer<typeof machine>>;

/** Reads the operator's file. Throws `DriverError` `config` that names what is wrong and where. */
export function readStaticMachines(path: string): readonly StaticMachine[] {
  const read = config.safeParse(parse(path));
  if (!read.success) {
    const issues = read.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
    throw new DriverError("config", `${path}: ${issues.join("; ")}`);
  }
  const { machines } = read.data;
  const twice = machines.find((one, index) => machines.findIndex((other) => other.vmId === one.vmId) !== index);
  if (twice !== undefined) throw new DriverError("config", `${path}: the VM ${twice.vmId} is named twice`);
  return machines;
}

function parse(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new DriverError("config", `${path} cannot be read as JSON: ${String(error)}`, { cause: error });
  }
}
