import { Readable } from "node:stream";
import type { Stats } from "ssh2";
import { failure, type Result, success } from "../protocol/failures.ts";
import type { DirectoryListing, FileStatus, FileWish } from "../protocol/host-api.ts";
import type { Accounts } from "./accounts.ts";
import { type ByteRange, readRange } from "./byte-range.ts";
import type { Exec } from "./exec.ts";
import { inSftpSession, withSftp } from "./file-session.ts";
import type { ManagedMachine } from "./machine.ts";
import type { Sftp } from "./sftp.ts";
import { makeDirectories, statIfThere } from "./staging.ts";
import { readExactly, readSmall, readToEnd } from "./transfer.ts";
import { type UploadLimits, upload } from "./upload.ts";

/** What a path turned out to be. A file's `content` must be read or destroyed; that ends its session in the guest. */
export type OpenedFile =
  | { readonly kind: "directory"; readonly listing: DirectoryListing }
  /** `size` in bytes; null when the kernel does not say (files of `/proc`). `range`: the part that `content` is, or null. */
  | { readonly kind: "file"; readonly size: number | null; readonly range: ByteRange | null; readonly content: Readable };

export interface ReadWish {
  /** What the path must be; a read of something else is refused. */
  readonly kind?: "file" | "directory" | undefined;
  /** A `Range` header. */
  readonly range?: string | undefined;
}

/** A file that is written with nothing wished: the mode of the one it replaces, or what the umask leaves. */
const PLAIN_FILE: FileWish = { mode: null, newMode: null, sha256: null };
/** Largest file of a size that the kernel does not say of which a part can be read, in bytes. */
const UNSIZED_RANGE_BYTES = 1024 * 1024;
const PERMISSION_BITS = 0o7777;
/** Passed by the environment, so that no shell reads it. */
const REMOVE = { command: 'exec rm -rf -- "$POSTERN_PATH"', variable: "POSTERN_PATH" };

/**
 * Files of a guest for whoever holds a `files` ticket, over SFTP as the ticket's Linux user, so that Linux decides. A
 * relative path starts at the user's home. Every operation wakes the VM first and fails with `file-not-found`,
 * `file-access-denied` or `file-bad-request` where Linux refuses the path.
 */
export class Files {
  readonly #accounts: Accounts;
  readonly #exec: Exec;
  readonly #limits: UploadLimits;

  constructor(accounts: Accounts, exec: Exec, limits: UploadLimits) {
    this.#accounts = accounts;
    this.#exec = exec;
    this.#limits = limits;
  }

  /** Follows symbolic links. */
  async read(machine: ManagedMachine, linuxUser: string, path: string, wish: ReadWish = {}): Promise<Result<OpenedFile>> {
    return inSftpSession<OpenedFile>(this.#accounts, machine, linuxUser, path, async (sftp, done) => {
      const stats = await sftp.stat(path);
      const refused = refuseKind(stats, path, wish.kind);
      if (refused !== null || stats.isDirectory()) {
        const listing = refused ?? success({ kind: "directory" as const, listing: listingOf(await sftp.readdir(path)) });
        done();
        return listing;
      }
      const opened = await openPart(sftp, path, wish.range);
      if (!opened.ok || opened.value.kind === "directory") {
        done();
        return opened;
      }
      opened.value.content.once("close", done);
      return opened;
    });
  }

  /**
   * Writes a file in one step: a reader sees the old content or the new. Parent directories are made. An existing file
   * keeps its owner, and its mode unless another is wished. Where the directory is closed to the user but the file is not,
   * it is written in place once all of the content is in the guest.
   */
  async write(
    machine: ManagedMachine,
    linuxUser: string,
    path: string,
    content: Readable,
    wish: FileWish = PLAIN_FILE,
  ): Promise<Result<null>> {
    return withSftp(this.#accounts, machine, linuxUser, path, (sftp) => upload(sftp, path, content, wish, this.#limits));
  }

  /** What is at a path. A link is described by what it leads to, or by itself when that is nothing. */
  async status(machine: ManagedMachine, linuxUser: string, path: string): Promise<Result<FileStatus>> {
    const found = await withSftp(this.#accounts, machine, linuxUser, path, async (sftp) => {
      const link = await sftp.lstat(path);
      return success({ link, stats: link.isSymbolicLink() ? ((await statIfThere(sftp, path)) ?? link) : link });
    });
    if (!found.ok) return found;
    const { link, stats } = found.value;
    const names = await this.#accounts.namesOf(machine, stats);
    if (!names.ok) return names;
    return success({
      kind: kindOf(stats) ?? "other",
      isSymlink: link.isSymbolicLink(),
      size: stats.size,
      mode: stats.mode & PERMISSION_BITS,
      ...names.value,
      modifiedAt: stats.mtime * 1000,
    });
  }

  /** Makes a directory and its parents; one that is there is success. */
  async makeDirectory(machine: ManagedMachine, linuxUser: string, path: string): Promise<Result<null>> {
    return withSftp(this.#accounts, machine, linuxUser, path, async (sftp) => {
      await makeDirectories(sftp, path.startsWith("/") ? path : `${await sftp.realpath(".")}/${path}`);
      const isThere = (await sftp.stat(path)).isDirectory();
      return isThere ? success(null) : failure("file-bad-request", `'${path}' exists and is no directory.`, { path });
    });
  }

  /** Removes a file, a link or a directory with all that is in it. `caller` aborts when the caller went away. */
  async remove(machine: ManagedMachine, linuxUser: string, path: string, caller: AbortSignal): Promise<Result<null>> {
    const isDirectory = await withSftp(this.#accounts, machine, linuxUser, path, async (sftp) => {
      if ((await sftp.lstat(path)).isDirectory()) return success(true);
      await sftp.unlink(path);
      return success(false);
    });
    if (!isDirectory.ok) return isDirectory;
    if (!isDirectory.value) return success(null);
    const env = { LC_ALL: "C", [REMOVE.variable]: path };
    const removed = await this.#exec.run(machine, linuxUser, { command: REMOVE.command, timeoutMs: null, env }, caller);
    if (!removed.ok) return removed;
    const { statusCode, stderr } = removed.value;
    return statusCode === 0 ? success(null) : explainRemoval(stderr, path);
  }
}

async function openPart(sftp: Sftp, path: string, header: string | undefined): Promise<Result<OpenedFile>> {
  const handle = await sftp.open(path, "r");
  const { size } = await sftp.fstat(handle);
  if (size === 0) {
    const whole = header === undefined ? null : await readSmall(sftp, handle, UNSIZED_RANGE_BYTES);
    if (whole === null) return success({ kind: "file", size: null, range: null, content: readable(readToEnd(sftp, handle)) });
    return cut(path, header, whole.length, async function* (start, end) {
      yield whole.subarray(start, end);
    });
  }
  return cut(path, header, size, (start, end) => readExactly(sftp, handle, start, end));
}

function cut(
  path: string,
  header: string | undefined,
  size: number,
  read: (start: number, end: number) => AsyncGenerator<Buffer>,
): Result<OpenedFile> {
  const range = readRange(header, size);
  if (range === "unsatisfiable") {
    return failure("range-not-satisfiable", `'${path}' has ${size} bytes, and none of those that were asked for.`, { path, size });
  }
  const { start, end } = range ?? { start: 0, end: size - 1 };
  return success({ kind: "file", size, range, content: readable(read(start, end + 1)) });
}

function readable(content: AsyncGenerator<Buffer>): Readable {
  return Readable.from(content, { objectMode: false });
}

function refuseKind(stats: Stats, path: string, wanted: ReadWish["kind"]): Result<never> | null {
  const kind = kindOf(stats);
  // Opening a FIFO or a device could wait for ever.
  if (kind !== "file" && kind !== "directory") {
    return failure("file-bad-request", `'${path}' is neither a file nor a directory.`, { path });
  }
  if (wanted === undefined || kind === wanted) return null;
  return failure("file-bad-request", `'${path}' is a ${kind}, not a ${wanted}.`, { path });
}

function kindOf(stats: Stats): "file" | "directory" | "symlink" | null {
  if (stats.isDirectory()) return "directory";
  if (stats.isFile()) return "file";
  return stats.isSymbolicLink() ? "symlink" : null;
}

function listingOf(entries: Awaited<ReturnType<Sftp["readdir"]>>): DirectoryListing {
  return {
    files: entries
      .filter(({ filename }) => filename !== "." && filename !== "..")
      .map(({ filename, attrs }) => ({
        name: filename,
        kind: attrs.isDirectory() ? "directory" : attrs.isSymbolicLink() ? "symlink" : "file",
      })),
  };
}

/** `stderr`: what rm complained, in the C locale. */
function explainRemoval(stderr: string, path: string): Result<never> {
  const isDenied = /: (?:Permission denied|Operation not permitted)$/m.test(stderr);
  if (isDenied) return failure("file-access-denied", `Access to '${path}', or to something in it, is denied.`, { path });
  return failure("file-bad-request", `'${path}' could not be removed: ${stderr.split("\n")[0] ?? ""}`, { path });
}
