import { createHash, type Hash } from "node:crypto";
import type { Sftp } from "../sftp.ts";
import { readExactly } from "../transfer.ts";

/**
 * The SHA-256 of an upload as its pieces arrive, so that nothing is read twice. It is lost when the pieces did not pass
 * through this process one after another; then the file is read back.
 */
export class RunningHash {
  #hash: Hash | null = createHash("sha256");
  #length = 0;

  /** A piece that begins at `position` is about to be added with `update`. */
  continueAt(position: number): void {
    if (position !== this.#length) this.#hash = null;
  }

  update(chunk: Buffer): void {
    this.#hash?.update(chunk);
    this.#length += chunk.length;
  }

  /** Of the file's `size` bytes, 64 hexadecimal digits. */
  async digest(sftp: Sftp, path: string, size: number): Promise<string> {
    if (this.#hash !== null && this.#length === size) return this.#hash.copy().digest("hex");
    const hash = createHash("sha256");
    const handle = await sftp.open(path, "r");
    for await (const chunk of readExactly(sftp, handle, 0, size)) hash.update(chunk);
    await sftp.close(handle);
    return hash.digest("hex");
  }
}
