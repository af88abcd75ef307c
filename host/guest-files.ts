import { Readable } from "node:stream";
import { type Failure, failure, type Result, success } from "../protocol/failures.ts";
import type { GuestFile } from "../protocol/host-api.ts";
import type { Accounts } from "./accounts.ts";
import type { Files } from "./files.ts";
import type { ManagedMachine } from "./machine.ts";
import { shellQuote } from "./shell-quote.ts";

const MODE = { executable: "0755", plain: "0644" } as const;

/** Why files for a new machine cannot be written, before anything has happened; null when they can. */
export function refuseFiles(files: readonly GuestFile[]): Result<never> | null {
  const seen = new Set<string>();
  for (const { path } of files) {
    if (path.includes("\0") || path.endsWith("/")) return failure("vm-create-bad-request", `'${path}' cannot be a file's path.`);
    if (seen.has(path)) return failure("vm-create-bad-request", `The file '${path}' is listed twice.`);
    seen.add(path);
  }
  return null;
}

/** Writes a new machine's files as root and makes their directories. Stops at the first that fails. */
export async function writeGuestFiles(
  machine: ManagedMachine,
  files: readonly GuestFile[],
  { accounts, writer }: { readonly accounts: Accounts; readonly writer: Files },
): Promise<Result<null>> {
  for (const { path, content, executable } of files) {
    const written = await writer.write(machine, "root", path, Readable.from([Buffer.from(content, "base64")]));
    if (!written.ok) return { ok: false, failure: explain(written.failure) };
    const mode = executable ? MODE.executable : MODE.plain;
    const step = {
      command: `chmod ${mode} -- ${shellQuote(path)}`,
      explain: (): Failure => ({ kind: "vm-setup-failed", message: `The mode of '${path}' could not be set.` }),
    };
    const set = await accounts.setUp(machine, [step]);
    if (!set.ok) return set;
  }
  return success(null);
}

/** A path that cannot be written is the caller's mistake; what broke on the way is not. */
function explain({ kind, message, details }: Failure): Failure {
  if (!kind.startsWith("file-")) return { kind, message };
  return { kind: "vm-create-bad-request", message: `A file could not be written: ${message}`, ...(details ? { details } : {}) };
}
