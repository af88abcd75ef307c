import { createHash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { open } from "node:fs/promises";
import { pipeline } from "node:stream/promises";

const CHUNK_BYTES = 1024 * 1024;

/** SHA-256 of a file, 64 hexadecimal digits. */
export function sha256OfFile(path: string): Promise<string> {
  return hashOfFile(path, "sha256");
}

/** What coreutils' `b2sum` says of a file, which takes it a third of what SHA-256 does: 128 hexadecimal digits. */
export function blake2OfFile(path: string): Promise<string> {
  return hashOfFile(path, "blake2b512");
}

async function hashOfFile(path: string, algorithm: string): Promise<string> {
  const hash = createHash(algorithm);
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

/** Writes a file of random bytes, so that nothing on the way can compress it or guess it. `bytes` is a multiple of 1 MiB. */
export async function writeRandomFile(path: string, bytes: number): Promise<void> {
  await pipeline(function* () {
    for (let written = 0; written < bytes; written += CHUNK_BYTES) yield randomBytes(CHUNK_BYTES);
  }, createWriteStream(path));
}

/** Writes a file that is mostly holes, with random bytes here and there, so that none of it can go missing or move unnoticed. */
export async function writeSparseFile(path: string, bytes: number): Promise<void> {
  const file = await open(path, "w");
  try {
    await file.truncate(bytes);
    for (let at = 0; at < bytes; at += 61 * CHUNK_BYTES) await file.write(randomBytes(4_096), 0, 4_096, at);
  } finally {
    await file.close();
  }
}
