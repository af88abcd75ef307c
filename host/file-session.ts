import { failure, type Result } from "../protocol/failures.ts";
import type { Accounts } from "./accounts.ts";
import type { ManagedMachine } from "./machine.ts";
import { Sftp, sftpFailure } from "./sftp.ts";

/** Linux's `PATH_MAX`. */
const MAX_PATH_BYTES = 4096;

/** Refuses what cannot be a path in Linux, or would arrive there as another. */
export function refusePath(path: string): Result<never> | null {
  const isPath = path !== "" && !path.includes("\0") && path.isWellFormed() && Buffer.byteLength(path) <= MAX_PATH_BYTES;
  return isPath ? null : failure("file-bad-request", `A path has 1 to ${MAX_PATH_BYTES} bytes and no NUL character.`);
}

/**
 * Works on one path over SFTP as a Linux user. Wakes the VM first. The session stays open until `work` calls `done`, or
 * throws: an SFTP error about the path becomes its failure.
 */
export async function inSftpSession<T>(
  accounts: Accounts,
  machine: ManagedMachine,
  linuxUser: string,
  path: string,
  work: (sftp: Sftp, done: () => void) => Promise<Result<T>>,
): Promise<Result<T>> {
  const refused = refusePath(path);
  if (refused !== null) return refused;
  const opened = await accounts.openAs(machine, linuxUser, (client, down) => Sftp.open(client, down));
  if (!opened.ok) return opened;
  const { channel: sftp, release } = opened.value;
  const done = () => {
    sftp.end();
    release();
  };
  try {
    return await work(sftp, done);
  } catch (error) {
    done();
    return sftpFailure(error, path);
  }
}

/** As `inSftpSession`, for work that is over when it answers. */
export function withSftp<T>(
  accounts: Accounts,
  machine: ManagedMachine,
  linuxUser: string,
  path: string,
  work: (sftp: Sftp) => Promise<Result<T>>,
): Promise<Result<T>> {
  return inSftpSession(accounts, machine, linuxUser, path, async (sftp, done) => {
    try {
      return await work(sftp);
    } finally {
      done();
    }
  });
}
