import { Readable } from "node:stream";
import { failure, type Result, success } from "../protocol/failures.ts";
import type { DirectoryListing } from "../protocol/host-api.ts";
import type { Accounts } from "./accounts.ts";
import type { ManagedMachine } from "./machine.ts";
import { Sftp, sftpFailure } from "./sftp.ts";
import { readExactly, readToEnd } from "./transfer.ts";
import { type UploadLimits, upload } from "./upload.ts";

/** What a path turned out to be. A file's `content` must be read or destroyed; that ends its session in the guest. */
export type FileRead =
  | { readonly kind: "directory"; readonly listing: DirectoryListing }
  /** `size` in bytes; null when the kernel does not say (files of `/proc`). */
  | { readonly kind: "file"; readonly size: number | null; readonly content: Readable };

/** Linux's `PATH_MAX`. */
const MAX_PATH_BYTES = 4096;

/**
 * Files of a guest for whoever holds a `files` ticket, over SFTP as the ticket's Linux user, so that Linux decides. A
 * relative path starts at the user's home. Wakes the VM first.
 */
export class Files {
  readonly #accounts: Accounts;
  readonly #limits: UploadLimits;

  constructor(accounts: Accounts, limits: UploadLimits) {
    this.#accounts = accounts;
    this.#limits = limits;
  }

  /** Follows symbolic links. Fails with `file-not-found`, `file-access-denied` or `file-bad-request`. */
  async read(machine: ManagedMachine, linuxUser: string, path: string): Promise<Result<FileRead>> {
    return this.#inSession<FileRead>(machine, linuxUser, path, async (sftp, done) => {
      const stats = await sftp.stat(path);
      if (stats.isDirectory()) {
        const listing = listingOf(await sftp.readdir(path));
        done();
        return success({ kind: "directory", listing });
      }
      // Opening a FIFO or a device could wait for ever.
      if (!stats.isFile()) {
        done();
        return failure("file-bad-request", `'${path}' is neither a file nor a directory.`, { path });
      }
      const handle = await sftp.open(path, "r");
      const { size } = await sftp.fstat(handle);
      const content = Readable.from(size === 0 ? readToEnd(sftp, handle) : readExactly(sftp, handle, size), { objectMode: false });
      content.once("close", done);
      return success({ kind: "file", size: size === 0 ? null : size, content });
    });
  }

  /**
   * Writes a file in one step: a reader sees the old content or the new. Parent directories are made. An existing file
   * keeps its mode and owner. Where the directory is closed to the user but the file is not, it is written in place.
   */
  async write(machine: ManagedMachine, linuxUser: string, path: string, content: Readable): Promise<Result<null>> {
    return this.#inSession(machine, linuxUser, path, async (sftp, done) => {
      try {
        return await upload(sftp, path, content, this.#limits);
      } finally {
        done();
      }
    });
  }

  async #inSession<T>(
    machine: ManagedMachine,
    linuxUser: string,
    path: string,
    work: (sftp: Sftp, done: () => void) => Promise<Result<T>>,
  ): Promise<Result<T>> {
    if (path === "" || path.includes("\0") || Buffer.byteLength(path) > MAX_PATH_BYTES) {
      return failure("file-bad-request", `A path has 1 to ${MAX_PATH_BYTES} bytes and no NUL character.`);
    }
    const opened = await this.#accounts.openAs(machine, linuxUser, (client, down) => Sftp.open(client, down));
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
