import { posix } from "node:path";
import type { Readable } from "node:stream";
import type { Stats } from "ssh2";
import { encodeBase32 } from "../protocol/base32.ts";
import type { RandomBytes } from "../protocol/bytes.ts";
import { failure, type Result, success } from "../protocol/failures.ts";
import { isNoSuchFile, type Sftp, sftpFailure } from "./sftp.ts";
import { SourceBroke, TooManyBytes, writeAll } from "./transfer.ts";

export interface UploadLimits {
  /** Largest file, in bytes. */
  readonly maxBytes: number;
  readonly randomBytes: RandomBytes;
}

const NEW_FILE_MODE = 0o666;
const PERMISSION_BITS = 0o7777;

/**
 * Writes `content` to `path`: into a temporary file beside it, which takes its place when all of it is there. Rejects with
 * an SFTP error about the path.
 */
export async function upload(sftp: Sftp, path: string, content: Readable, limits: UploadLimits): Promise<Result<null>> {
  const target = await resolveTarget(sftp, path);
  const existing = await statIfThere(sftp, target);
  if (existing !== null && !existing.isFile()) {
    return failure("file-bad-request", `'${path}' exists and is no regular file.`, { path });
  }
  if (existing === null) await makeDirectories(sftp, posix.dirname(target));
  const temporary = posix.join(posix.dirname(target), `.postern-${encodeBase32(limits.randomBytes(10))}`);
  const handle = await openTemporary(sftp, temporary, existing);
  if (handle === null) return writeInPlace(sftp, target, path, content, limits);
  const written = await fill(sftp, handle, path, content, limits);
  if (!written.ok) {
    await sftp.unlink(temporary).catch(() => undefined);
    return written;
  }
  await sftp.replace(temporary, target);
  return success(null);
}

/** The absolute path behind symbolic links, the last one included even if what it names does not exist yet. */
async function resolveTarget(sftp: Sftp, path: string): Promise<string> {
  const absolute = path.startsWith("/") ? posix.normalize(path) : posix.join(await sftp.realpath("."), path);
  try {
    return await sftp.realpath(absolute);
  } catch (error) {
    // OpenSSH resolves a missing last part, not a missing directory before it: those are about to be made.
    if (isNoSuchFile(error)) return absolute;
    throw error;
  }
}

async function statIfThere(sftp: Sftp, path: string): Promise<Stats | null> {
  try {
    return await sftp.stat(path);
  } catch (error) {
    if (isNoSuchFile(error)) return null;
    throw error;
  }
}

async function makeDirectories(sftp: Sftp, directory: string): Promise<void> {
  if ((await statIfThere(sftp, directory)) !== null) return;
  await makeDirectories(sftp, posix.dirname(directory));
  try {
    await sftp.mkdir(directory);
  } catch (error) {
    // Somebody else may have made it meanwhile.
    if ((await statIfThere(sftp, directory)) === null) throw error;
  }
}

/** A fresh file with the mode and owner of the one it will replace; null where only writing in place can keep those. */
async function openTemporary(sftp: Sftp, temporary: string, existing: Stats | null): Promise<Buffer | null> {
  let handle: Buffer;
  try {
    handle = await sftp.open(temporary, "wx", existing === null ? NEW_FILE_MODE : 0o600);
  } catch (error) {
    if (existing === null) throw error;
    return null;
  }
  if (existing === null) return handle;
  try {
    const fresh = await sftp.fstat(handle);
    if (fresh.uid !== existing.uid || fresh.gid !== existing.gid) {
      await sftp.fsetstat(handle, { uid: existing.uid, gid: existing.gid });
    }
    await sftp.fsetstat(handle, { mode: existing.mode & PERMISSION_BITS });
    return handle;
  } catch {
    await sftp.close(handle).catch(() => undefined);
    await sftp.unlink(temporary).catch(() => undefined);
    return null;
  }
}

async function writeInPlace(
  sftp: Sftp,
  target: string,
  path: string,
  content: Readable,
  limits: UploadLimits,
): Promise<Result<null>> {
  return fill(sftp, await sftp.open(target, "w"), path, content, limits);
}

/** Streams `content` into an open file and closes it. */
async function fill(sftp: Sftp, handle: Buffer, path: string, content: Readable, limits: UploadLimits): Promise<Result<null>> {
  try {
    await writeAll(sftp, handle, content, limits.maxBytes);
    await sftp.close(handle);
    return success(null);
  } catch (error) {
    await sftp.close(handle).catch(() => undefined);
    if (error instanceof TooManyBytes) {
      return failure("payload-too-large", `A file may have at most ${limits.maxBytes} bytes.`, { path });
    }
    if (error instanceof SourceBroke) return failure("bad-request", "The upload broke off before its end.", { path });
    return sftpFailure(error, path);
  }
}
