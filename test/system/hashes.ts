import { createHash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";

const CHUNK_BYTES = 1024 * 1024;

/** SHA-256 of a file, 64 hexadecimal digits. */
export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

/** Writes a file of random bytes, so that nothing on the way can compress it or guess it. `bytes` is a multiple of 1 MiB. */
export async function writeRandomFile(path: string, bytes: number): Promise<void> {
  await pipeline(function* () {
    for (let written = 0; written < bytes; written += CHUNK_BYTES) yield randomBytes(CHUNK_BYTES);
  }, createWriteStream(path));
}
