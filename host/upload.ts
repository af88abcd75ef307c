import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import type { RandomBytes } from "../protocol/bytes.ts";
import { failure, type Result, success } from "../protocol/failures.ts";
import type { FileWish } from "../protocol/host-api.ts";
import { isGuestDiskFull, type Sftp, sftpFailure } from "./sftp.ts";
import { place, stage } from "./staging.ts";
import { SourceBroke, SourceStalled, TooManyBytes, writeAll } from "./transfer.ts";

export interface UploadLimits {
  /** Largest file, in bytes. */
  readonly maxBytes: number;
  /** How long its bytes may stop arriving, in milliseconds. */
  readonly idleMs: number;
  readonly randomBytes: RandomBytes;
}

/**
 * Writes `content` to `path`: into a staged file, which takes its place when all of it is there and is what it should be.
 * Rejects with an SFTP error about the path.
 */
export async function upload(
  sftp: Sftp,
  path: string,
  content: Readable,
  wish: FileWish,
  limits: UploadLimits,
): Promise<Result<null>> {
  const staged = await stage(sftp, path, wish, limits.randomBytes);
  if (!staged.ok) return staged;
  const { file, handle } = staged.value;
  const filled = await fill(sftp, handle, path, content, wish.sha256, limits);
  if (!filled.ok) {
    await sftp.unlink(file.path).catch(() => undefined);
    return filled;
  }
  await place(sftp, file);
  return success(null);
}

/** The refusal of content that is not what it was said to be. */
export function wrongContent(path: string): Result<never> {
  return failure("file-bad-request", "The content does not have the SHA-256 that was given; the file stays as it was.", { path });
}

/** What went wrong while content was written to an open file, as the caller of a write is told. */
export async function explainBrokenWrite(
  sftp: Sftp,
  handle: Buffer,
  error: unknown,
  path: string,
  maxBytes: number,
): Promise<Result<never>> {
  if (error instanceof TooManyBytes) return failure("payload-too-large", `At most ${maxBytes} bytes may come here.`, { path });
  if (error instanceof SourceBroke) return failure("bad-request", "The upload broke off before its end.", { path });
  if (error instanceof SourceStalled) return failure("request-timed-out", "The upload stopped arriving.", { path });
  if (await isGuestDiskFull(sftp, handle, error)) {
    return failure("vm-disk-full", "The VM's disk is full; the file stays as it was. Make room in the VM and try again.", { path });
  }
  return sftpFailure(error, path);
}

/** Streams `content` into an open file and closes it. */
async function fill(
  sftp: Sftp,
  handle: Buffer,
  path: string,
  content: Readable,
  sha256: string | null,
  { maxBytes, idleMs }: UploadLimits,
): Promise<Result<null>> {
  const hash = sha256 === null ? null : createHash("sha256");
  try {
    await writeAll(sftp, handle, content, { position: 0, skip: 0, maxBytes, idleMs, onWritten: (chunk) => hash?.update(chunk) });
    await sftp.close(handle);
  } catch (error) {
    const explained = await explainBrokenWrite(sftp, handle, error, path, maxBytes);
    await sftp.close(handle).catch(() => undefined);
    return explained;
  }
  return hash === null || hash.digest("hex") === sha256 ? success(null) : wrongContent(path);
}
