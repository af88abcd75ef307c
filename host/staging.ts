import { posix } from "node:path";
import type { Stats } from "ssh2";
import { encodeBase32 } from "../protocol/base32.ts";
import type { RandomBytes } from "../protocol/bytes.ts";
import { failure, type Result, success } from "../protocol/failures.ts";
import type { FileWish } from "../protocol/host-api.ts";
import { isNoSuchFile, type Sftp } from "./sftp.ts";
import { readExactly } from "./transfer.ts";

/** Permission bits wished for a file that is written. */
export type ModeWish = Pick<FileWish, "mode" | "newMode">;

/**
 * A file that is filled under another name and then takes its place. Plain data: an upload in pieces keeps it across a
 * restart.
 */
export interface StagedFile {
  readonly path: string;
  /** Absolute, behind symbolic links. */
  readonly target: string;
  /** Takes its place by a rename; otherwise, where the user may not do that, by being copied into the target. */
  readonly byRename: boolean;
  /** Permission bits that the target gets in any case. */
  readonly mode: number | null;
  /** Permission bits that can only be set once the file is filled, since they close it to its own user. */
  readonly lateMode: number | null;
}

/** Where a file is filled when the target's directory is closed to the user; on disk, since files may be large. */
const STAGING_FOLDER = "/var/tmp";
const NEW_FILE_MODE = 0o666;
const STAGED_MODE = 0o600;
const OWNER_MAY_WRITE = 0o600;
const PERMISSION_BITS = 0o7777;

/** Names of staged files, which watchers of a directory are not told of. */
export const STAGED_NAME = /(?:^|\/)\.postern-[a-z2-7]{16}$/;

/**
 * Makes an empty staged file for a path, and the path's directories. Owner and permission bits of a file that is there are
 * given to it now, through the handle: its name may be in a directory where another user could put a link in its place.
 * Rejects with an SFTP error about the path.
 */
export async function stage(
  sftp: Sftp,
  path: string,
  wish: ModeWish,
  randomBytes: RandomBytes,
): Promise<Result<{ readonly file: StagedFile; readonly handle: Buffer }>> {
  const target = await resolveTarget(sftp, path);
  const existing = await statIfThere(sftp, target);
  if (existing === null && target.endsWith("/")) return failure("file-bad-request", `'${path}' names a directory.`, { path });
  if (existing !== null && !existing.isFile()) {
    return failure("file-bad-request", `'${path}' exists and is no regular file.`, { path });
  }
  if (existing === null) await makeDirectories(sftp, posix.dirname(target));
  const name = `.postern-${encodeBase32(randomBytes(10))}`;
  const beside = posix.join(posix.dirname(target), name);
  const opened = await openBeside(sftp, beside, existing, wish);
  if (opened !== null) {
    const { handle, isRoot } = opened;
    const file = { path: beside, target, byRename: true, mode: wish.mode, lateMode: null };
    const mode = wish.mode ?? (existing === null ? null : existing.mode & PERMISSION_BITS);
    if (mode === null) return success({ file, handle });
    if (!isRoot && (mode & OWNER_MAY_WRITE) !== OWNER_MAY_WRITE) return success({ file: { ...file, lateMode: mode }, handle });
    await sftp.fsetstat(handle, { mode });
    return success({ file, handle });
  }
  const elsewhere = posix.join(STAGING_FOLDER, name);
  return success({
    file: { path: elsewhere, target, byRename: false, mode: wish.mode, lateMode: null },
    handle: await sftp.open(elsewhere, "wx", STAGED_MODE),
  });
}

/** Puts a filled and closed staged file in its place; whatever happens, it is then gone. Rejects with an SFTP error about the path. */
export async function place(sftp: Sftp, file: StagedFile): Promise<void> {
  try {
    if (file.byRename && (await renamed(sftp, file))) return;
    await copyInto(sftp, file);
  } finally {
    // After the rename there is nothing under this name.
    await sftp.unlink(file.path).catch(() => undefined);
  }
}

/** Makes a directory and those above it; one that is there is fine. Rejects with an SFTP error. */
export async function makeDirectories(sftp: Sftp, directory: string): Promise<void> {
  if ((await statIfThere(sftp, directory)) !== null) return;
  await makeDirectories(sftp, posix.dirname(directory));
  try {
    await sftp.mkdir(directory);
  } catch (error) {
    // Somebody else may have made it meanwhile.
    if ((await statIfThere(sftp, directory)) === null) throw error;
  }
}

/** What a path leads to, or null when there is nothing. */
export async function statIfThere(sftp: Sftp, path: string): Promise<Stats | null> {
  try {
    return await sftp.stat(path);
  } catch (error) {
    if (isNoSuchFile(error)) return null;
    throw error;
  }
}

/** The absolute path behind symbolic links, the last one included even if what it names does not exist yet. */
async function resolveTarget(sftp: Sftp, path: string): Promise<string> {
  const absolute = path.startsWith("/") ? path : `${await sftp.realpath(".")}/${path}`;
  try {
    const real = await sftp.realpath(absolute);
    return absolute.endsWith("/") && real !== "/" ? `${real}/` : real;
  } catch (error) {
    // OpenSSH resolves a missing last part, not a missing directory before it: those are about to be made.
    if (isNoSuchFile(error)) return absolute;
    throw error;
  }
}

interface FreshFile {
  readonly handle: Buffer;
  /** Made by root, whom no permission bits keep out. */
  readonly isRoot: boolean;
}

/** A fresh file with the owner of the one it will replace; null where only copying into that one can keep it. */
async function openBeside(sftp: Sftp, path: string, existing: Stats | null, wish: ModeWish): Promise<FreshFile | null> {
  const plainMode = wish.mode === null ? (wish.newMode ?? NEW_FILE_MODE) : STAGED_MODE;
  if (existing === null) {
    const handle = await sftp.open(path, "wx", plainMode);
    return { handle, isRoot: (await sftp.fstat(handle)).uid === 0 };
  }
  let handle: Buffer;
  try {
    handle = await sftp.open(path, "wx", STAGED_MODE);
  } catch {
    return null;
  }
  try {
    const { uid, gid } = await sftp.fstat(handle);
    if (uid !== existing.uid || gid !== existing.gid) await sftp.fsetstat(handle, { uid: existing.uid, gid: existing.gid });
    return { handle, isRoot: uid === 0 };
  } catch {
    await sftp.close(handle).catch(() => undefined);
    await sftp.unlink(path).catch(() => undefined);
    return null;
  }
}

async function renamed(sftp: Sftp, file: StagedFile): Promise<boolean> {
  if (file.lateMode !== null) await sftp.setstat(file.path, { mode: file.lateMode });
  try {
    await sftp.replace(file.path, file.target);
    return true;
  } catch (error) {
    // A file that is a mount point, as a container's /etc/hosts, cannot be replaced but can be written.
    if ((await statIfThere(sftp, file.target))?.isFile() === true) return false;
    throw error;
  }
}

async function copyInto(sftp: Sftp, { path, target, mode }: StagedFile): Promise<void> {
  const from = await sftp.open(path, "r");
  const { size } = await sftp.fstat(from);
  const to = await sftp.open(target, "w");
  let position = 0;
  for await (const chunk of readExactly(sftp, from, 0, size)) {
    await sftp.write(to, position, chunk);
    position += chunk.length;
  }
  if (mode !== null) await sftp.fsetstat(to, { mode });
  await sftp.close(to);
}
