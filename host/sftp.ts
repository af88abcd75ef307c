import type { Client, FileEntryWithStats, InputAttributes, OpenMode, SFTPWrapper, Stats } from "ssh2";
import { z } from "zod";
import { type Failure, failure, type Result } from "../protocol/failures.ts";
import { diskFull, isDiskFull } from "./disk-full.ts";

/** Status of an SFTP answer (draft-ietf-secsh-filexfer-02 section 7), as `ssh2` puts it into an error's `code`. */
const NO_SUCH_FILE = 2;
const PERMISSION_DENIED = 3;
const FAILURE = 4;

/** With less room than this a write that failed for no reason of its own failed for that. */
const FULL_BYTES = 256 * 1024;

const fileSystem = z.object({ f_bavail: z.number(), f_frsize: z.number() });

type Callback<T> = (error: Error | null | undefined, value: T) => void;

/** An SFTP session in a guest, with promises. Every method rejects with `ssh2`'s error; see `explainSftpError`. */
export class Sftp {
  readonly raw: SFTPWrapper;

  private constructor(raw: SFTPWrapper) {
    this.raw = raw;
    // Each call reports its own failure; the session's `error` event without a listener would end the process.
    raw.on("error", () => undefined);
  }

  /**
   * Opens a session; the subsystem runs as the connection's Linux user. `down` ends it when the machine goes down. Rejects
   * with `ssh2`'s error if the guest did not take it.
   */
  static async open(client: Client, down: AbortSignal): Promise<Sftp> {
    const raw = await promised<SFTPWrapper>((done) => client.sftp(done));
    const onDown = () => raw.end();
    down.addEventListener("abort", onDown, { once: true });
    raw.once("close", () => down.removeEventListener("abort", onDown));
    return new Sftp(raw);
  }

  stat(path: string): Promise<Stats> {
    return promised((done) => this.raw.stat(path, done));
  }

  /** Of a symbolic link itself. */
  lstat(path: string): Promise<Stats> {
    return promised((done) => this.raw.lstat(path, done));
  }

  fstat(handle: Buffer): Promise<Stats> {
    return promised((done) => this.raw.fstat(handle, done));
  }

  setstat(path: string, attributes: InputAttributes): Promise<void> {
    return promised((done) => this.raw.setstat(path, attributes, (error) => done(error, undefined)));
  }

  fsetstat(handle: Buffer, attributes: InputAttributes): Promise<void> {
    return promised((done) => this.raw.fsetstat(handle, attributes, (error) => done(error, undefined)));
  }

  realpath(path: string): Promise<string> {
    return promised((done) => this.raw.realpath(path, done));
  }

  open(path: string, flags: OpenMode, mode?: number): Promise<Buffer> {
    return promised((done) => (mode === undefined ? this.raw.open(path, flags, done) : this.raw.open(path, flags, mode, done)));
  }

  /** Reads up to `length` bytes at `position`; no bytes: the file ended. */
  read(handle: Buffer, position: number, length: number): Promise<Buffer> {
    const into = Buffer.allocUnsafe(length);
    return promised((done) =>
      this.raw.read(handle, into, 0, length, position, (error, count) => done(error, into.subarray(0, count))),
    );
  }

  write(handle: Buffer, position: number, content: Buffer): Promise<void> {
    return promised((done) => this.raw.write(handle, content, 0, content.length, position, (error) => done(error, undefined)));
  }

  close(handle: Buffer): Promise<void> {
    return promised((done) => this.raw.close(handle, (error) => done(error, undefined)));
  }

  /** Bytes that its user may still write to an open file's file system (OpenSSH PROTOCOL section 4.4). */
  async freeBytes(handle: Buffer): Promise<number> {
    const told = await promised<unknown>((done) => this.raw.ext_openssh_fstatvfs(handle, done));
    const { f_bavail, f_frsize } = fileSystem.parse(told);
    return f_bavail * f_frsize;
  }

  readdir(path: string): Promise<FileEntryWithStats[]> {
    return promised((done) => this.raw.readdir(path, done));
  }

  mkdir(path: string): Promise<void> {
    return promised((done) => this.raw.mkdir(path, (error) => done(error, undefined)));
  }

  unlink(path: string): Promise<void> {
    return promised((done) => this.raw.unlink(path, (error) => done(error, undefined)));
  }

  /** Renames over whatever is there, in one step (OpenSSH PROTOCOL section 4.3). */
  replace(from: string, to: string): Promise<void> {
    return promised((done) => this.raw.ext_openssh_rename(from, to, (error) => done(error, undefined)));
  }

  end(): void {
    this.raw.end();
  }
}

/** What an SFTP error about a path means to the caller. */
export function explainSftpError(error: unknown, path: string): Failure {
  const code = (error as { code?: unknown }).code;
  if (isDiskFull(error)) return diskFull("Nothing was written.").failure;
  if (code === NO_SUCH_FILE) return { kind: "file-not-found", message: `'${path}' does not exist.`, details: { path } };
  if (code === PERMISSION_DENIED)
    return { kind: "file-access-denied", message: `Access to '${path}' is denied.`, details: { path } };
  if (typeof code === "number")
    return { kind: "file-bad-request", message: `'${path}': ${(error as Error).message}.`, details: { path } };
  return { kind: "host-unavailable", message: "The connection to the VM broke. Try again." };
}

/** Whether a write to an open file failed because the guest's disk is full, for which SFTP has no status of its own. */
export async function isGuestDiskFull(sftp: Sftp, handle: Buffer, error: unknown): Promise<boolean> {
  if ((error as { code?: unknown }).code !== FAILURE) return false;
  return (await sftp.freeBytes(handle).catch(() => FULL_BYTES)) < FULL_BYTES;
}

/** Whether an error says that a path does not exist. */
export function isNoSuchFile(error: unknown): boolean {
  return (error as { code?: unknown }).code === NO_SUCH_FILE;
}

/** As `explainSftpError`, for returning. */
export function sftpFailure(error: unknown, path: string): Result<never> {
  const { kind, message, details } = explainSftpError(error, path);
  return failure(kind, message, details);
}

function promised<T>(start: (done: Callback<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    try {
      start((error, value) => (error ? reject(error) : resolve(value)));
    } catch (error) {
      reject(error);
    }
  });
}
