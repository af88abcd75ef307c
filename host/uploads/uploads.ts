import type { Readable } from "node:stream";
import { encodeBase32 } from "../../protocol/base32.ts";
import type { Clock, RandomBytes } from "../../protocol/bytes.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import type { UploadRequest, UploadStatus } from "../../protocol/host-api.ts";
import type { Accounts } from "../accounts.ts";
import { withSftp } from "../file-session.ts";
import type { ManagedMachine } from "../machine.ts";
import type { Machines } from "../machines.ts";
import { isNoSuchFile, type Sftp } from "../sftp.ts";
import { place, stage } from "../staging.ts";
import { TooManyBytes, writeAll } from "../transfer.ts";
import { explainBrokenWrite, wrongContent } from "../upload.ts";
import { SerialQueue } from "../wake.ts";
import { RunningHash } from "./received.ts";
import type { UploadRecord, UploadStore } from "./upload-store.ts";

export interface ChunkedUploadLimits {
  /** Largest file, in bytes. */
  readonly maxBytes: number;
  /** Largest piece, in bytes. */
  readonly chunkBytes: number;
  /** How long a piece's bytes may stop arriving, in milliseconds. */
  readonly idleMs: number;
  /** Unfinished uploads of one VM. */
  readonly perVm: number;
  /** How long one is kept from its beginning, in milliseconds. */
  readonly keepMs: number;
}

export interface UploadParts {
  readonly accounts: Accounts;
  readonly store: UploadStore;
  readonly limits: ChunkedUploadLimits;
  readonly clock: Clock;
  readonly randomBytes: RandomBytes;
}

/** Who uploads: another principal's or another Linux user's upload is as good as none. */
export interface Uploader {
  readonly subject: string;
  readonly linuxUser: string;
}

/** A piece of a file: where it belongs, its declared length if there is one, and its bytes. */
export interface Piece {
  readonly offset: number;
  readonly length: number | null;
  readonly content: Readable;
}

/** What this process remembers of an upload beside its record. */
interface LiveUpload {
  readonly hash: RunningHash;
  readonly queue: SerialQueue;
  /** Ends the piece that is being received. */
  interrupt: (() => void) | null;
}

const NOT_FOUND = failure("upload-not-found", "There is no such upload. Begin a new one.");

/**
 * Files that come in pieces. The bytes are in the guest from the start, beside the file that they will become; how many
 * arrived is that file's size, so a dropped connection costs nothing of what came, nor does a restart of this process.
 * Every operation wakes the VM. Changes to one upload happen one after another; a piece that is still under way when the
 * next change arrives belongs to a connection that its sender has given up, and is cut.
 */
export class Uploads {
  readonly #parts: UploadParts;
  readonly #live = new Map<string, LiveUpload>();
  readonly #beginnings = new WeakMap<ManagedMachine, SerialQueue>();

  constructor(parts: UploadParts) {
    this.#parts = parts;
  }

  /** Begins an upload; what it will not be able to do to the path fails now. */
  begin(machine: ManagedMachine, uploader: Uploader, request: UploadRequest): Promise<Result<UploadStatus>> {
    const queue = this.#beginnings.get(machine) ?? new SerialQueue();
    this.#beginnings.set(machine, queue);
    return queue.run(() => this.#begin(machine, uploader, request));
  }

  /** How far an upload has come. Waits for nothing and cuts nothing, so that progress can be watched. */
  async status(machine: ManagedMachine, uploader: Uploader, uploadId: string): Promise<Result<UploadStatus>> {
    const record = this.#find(machine, uploader, uploadId);
    if (record === null) return NOT_FOUND;
    return withSftp(this.#parts.accounts, machine, uploader.linuxUser, record.path, async (sftp) => {
      const received = await countReceived(sftp, record);
      return received.ok ? success(statusOf(record, received.value)) : received;
    });
  }

  /** Receives a piece. What is there already is not written again; a gap before the piece is `conflict`. */
  append(machine: ManagedMachine, uploader: Uploader, uploadId: string, piece: Piece): Promise<Result<UploadStatus>> {
    return this.#with(machine, uploader, uploadId, (sftp, record, live) => this.#append(sftp, record, live, piece));
  }

  /** Puts a complete upload in its place; `conflict` while it is not complete. */
  async commit(machine: ManagedMachine, uploader: Uploader, uploadId: string): Promise<Result<null>> {
    return this.#with(machine, uploader, uploadId, async (sftp, record, live) => {
      const received = await countReceived(sftp, record);
      if (!received.ok) return received;
      if (received.value !== record.size) {
        const receivedBytes = received.value;
        return failure("conflict", `The upload has ${receivedBytes} of ${record.size} bytes.`, { receivedBytes });
      }
      const { sha256, size, file } = record;
      if (sha256 !== null && (await live.hash.digest(sftp, file.path, size)) !== sha256) return wrongContent(record.path);
      try {
        await place(sftp, file);
      } finally {
        this.#forget(uploadId);
      }
      return success(null);
    });
  }

  /** Gives an upload up. */
  async discard(machine: ManagedMachine, uploader: Uploader, uploadId: string): Promise<Result<null>> {
    return this.#with(machine, uploader, uploadId, async (sftp, record) => {
      this.#forget(uploadId);
      await sftp.unlink(record.file.path).catch(() => undefined);
      return success(null);
    });
  }

  /** Forgets uploads of VMs that are gone, and expired ones whose VM runs. A sleeping VM is not woken to clean up. */
  async sweep(machines: Machines): Promise<void> {
    for (const record of this.#parts.store.list()) {
      const machine = machines.find(record.vmId);
      if (!machine.ok) this.#forget(record.uploadId);
      else if (this.#isExpired(record) && machine.value.running !== null) {
        this.#forget(record.uploadId);
        await this.#unlink(machine.value, record);
      }
    }
  }

  async #begin(machine: ManagedMachine, { subject, linuxUser }: Uploader, request: UploadRequest): Promise<Result<UploadStatus>> {
    const { accounts, store, limits, clock, randomBytes } = this.#parts;
    const { path, size, sha256 } = request;
    if (size > limits.maxBytes) return failure("payload-too-large", `A file may have at most ${limits.maxBytes} bytes.`, { path });
    const unfinished = store.list().filter((known) => known.vmId === machine.vmId && !this.#isExpired(known)).length;
    if (unfinished >= limits.perVm) {
      return failure("quota-exceeded", `A VM may have ${limits.perVm} unfinished uploads. Commit or delete one.`, {
        limit: limits.perVm,
      });
    }
    return withSftp(accounts, machine, linuxUser, path, async (sftp) => {
      const staged = await stage(sftp, path, request, randomBytes);
      if (!staged.ok) return staged;
      await sftp.close(staged.value.handle);
      const uploadId = encodeBase32(randomBytes(15));
      const record = {
        uploadId,
        vmId: machine.vmId,
        subject,
        linuxUser,
        path,
        size,
        sha256,
        file: staged.value.file,
        createdAt: clock(),
      };
      try {
        store.save(record);
      } catch (error) {
        await sftp.unlink(record.file.path).catch(() => undefined);
        throw error;
      }
      this.#live.set(uploadId, newLiveUpload());
      return success(statusOf(record, 0));
    });
  }

  async #append(sftp: Sftp, record: UploadRecord, live: LiveUpload, piece: Piece): Promise<Result<UploadStatus>> {
    const received = await countReceived(sftp, record);
    if (!received.ok) return received;
    const start = received.value;
    const refused = this.#refusePiece(record, piece, start);
    if (refused !== null) return refused;
    const handle = await sftp.open(record.file.path, "r+");
    const { chunkBytes, idleMs } = this.#parts.limits;
    const maxBytes = Math.min(chunkBytes, record.size - piece.offset);
    let written = 0;
    const onWritten = (chunk: Buffer) => {
      written += chunk.length;
      live.hash.update(chunk);
    };
    live.hash.continueAt(start);
    live.interrupt = () => piece.content.destroy();
    try {
      await writeAll(sftp, handle, piece.content, { position: start, skip: start - piece.offset, maxBytes, idleMs, onWritten });
    } catch (error) {
      // Bytes behind a failed write, or of a piece that is not what it said, do not count.
      if (error instanceof TooManyBytes) written = 0;
      const explained = await explainBrokenWrite(sftp, handle, error, record.path, maxBytes);
      await sftp.fsetstat(handle, { size: start + written });
      return explained;
    } finally {
      live.interrupt = null;
      await sftp.close(handle).catch(() => undefined);
    }
    return success(statusOf(record, start + written));
  }

  #refusePiece({ path, size }: UploadRecord, { offset, length }: Piece, receivedBytes: number): Result<never> | null {
    const { chunkBytes } = this.#parts.limits;
    if (length !== null && length > chunkBytes)
      return failure("payload-too-large", `A piece may have at most ${chunkBytes} bytes.`);
    if (offset > receivedBytes) {
      return failure("conflict", `The next piece begins at byte ${receivedBytes}.`, { receivedBytes });
    }
    if (offset + (length ?? 0) <= size) return null;
    return failure("file-bad-request", `The piece goes beyond the ${size} bytes of the upload.`, { path, size });
  }

  #with<T>(
    machine: ManagedMachine,
    uploader: Uploader,
    uploadId: string,
    work: (sftp: Sftp, record: UploadRecord, live: LiveUpload) => Promise<Result<T>>,
  ): Promise<Result<T>> {
    if (this.#find(machine, uploader, uploadId) === null) return Promise.resolve(NOT_FOUND);
    const live = this.#live.get(uploadId) ?? newLiveUpload();
    this.#live.set(uploadId, live);
    live.interrupt?.();
    return live.queue.run(async () => {
      // Whoever was before in the line may have ended it.
      const record = this.#find(machine, uploader, uploadId);
      if (record === null) return NOT_FOUND;
      return withSftp(this.#parts.accounts, machine, uploader.linuxUser, record.path, (sftp) => work(sftp, record, live));
    });
  }

  #find(machine: ManagedMachine, { subject, linuxUser }: Uploader, uploadId: string): UploadRecord | null {
    const record = this.#parts.store.find(uploadId);
    if (record === undefined || this.#isExpired(record)) return null;
    const isTheirs = record.vmId === machine.vmId && record.subject === subject && record.linuxUser === linuxUser;
    return isTheirs ? record : null;
  }

  #isExpired({ createdAt }: UploadRecord): boolean {
    return this.#parts.clock() - createdAt > this.#parts.limits.keepMs;
  }

  #forget(uploadId: string): void {
    this.#parts.store.remove(uploadId);
    this.#live.get(uploadId)?.interrupt?.();
    this.#live.delete(uploadId);
  }

  async #unlink(machine: ManagedMachine, { linuxUser, path, file }: UploadRecord): Promise<void> {
    await withSftp(this.#parts.accounts, machine, linuxUser, path, async (sftp) => {
      await sftp.unlink(file.path).catch(() => undefined);
      return success(null);
    });
  }
}

function newLiveUpload(): LiveUpload {
  return { hash: new RunningHash(), queue: new SerialQueue(), interrupt: null };
}

/** Bytes in the guest. An upload whose file somebody took away, or put something else in place of, is no more. */
async function countReceived(sftp: Sftp, { file, size }: UploadRecord): Promise<Result<number>> {
  try {
    const stats = await sftp.lstat(file.path);
    return stats.isFile() && stats.size <= size ? success(stats.size) : NOT_FOUND;
  } catch (error) {
    if (isNoSuchFile(error)) return NOT_FOUND;
    throw error;
  }
}

function statusOf({ uploadId, path, size }: UploadRecord, receivedBytes: number): UploadStatus {
  return { uploadId, path, size, receivedBytes };
}
