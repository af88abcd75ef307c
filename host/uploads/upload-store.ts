import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { isVmId } from "../../protocol/ids.ts";
import { isLinuxUser } from "../../protocol/linux-user.ts";
import { writeFileAtomically } from "../../service/atomic-file.ts";

const uploadRecord = z.object({
  uploadId: z.string().regex(/^[a-z2-7]{24}$/),
  vmId: z.string().refine(isVmId),
  /** Whose it is: the `sub` of the ticket that began it, and its Linux user. */
  subject: z.string(),
  linuxUser: z.string().refine(isLinuxUser),
  /** As the caller named it. */
  path: z.string(),
  size: z.int(),
  sha256: z.string().nullable(),
  /** Where the bytes are until they are all there. How many there are, only the guest knows. */
  file: z.object({
    path: z.string(),
    target: z.string(),
    byRename: z.boolean(),
    mode: z.int().nullable(),
    lateMode: z.int().nullable(),
  }),
  /** Milliseconds since 1970 UTC. */
  createdAt: z.number(),
});

/** What the host remembers of a file that comes in pieces. */
export type UploadRecord = Readonly<z.infer<typeof uploadRecord>>;

/** The unfinished uploads of a host's VMs: one file each, mode 0600, in `<state>/uploads`. */
export class UploadStore {
  readonly #dir: string;
  readonly #records: Map<string, UploadRecord>;

  constructor(stateDir: string) {
    this.#dir = join(stateDir, "uploads");
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    this.#records = new Map(this.#load().map((record) => [record.uploadId, record]));
  }

  list(): readonly UploadRecord[] {
    return [...this.#records.values()];
  }

  find(uploadId: string): UploadRecord | undefined {
    return this.#records.get(uploadId);
  }

  save(record: UploadRecord): void {
    writeFileAtomically(this.#path(record.uploadId), `${JSON.stringify(record)}\n`);
    this.#records.set(record.uploadId, record);
  }

  remove(uploadId: string): void {
    rmSync(this.#path(uploadId), { force: true });
    this.#records.delete(uploadId);
  }

  /** A record that cannot be read is dropped: its upload can only be begun again. */
  #load(): UploadRecord[] {
    return readdirSync(this.#dir)
      .filter((name) => name.endsWith(".json"))
      .flatMap((name) => {
        const read = uploadRecord.safeParse(parse(readFileSync(join(this.#dir, name), "utf8")));
        if (read.success) return [read.data];
        rmSync(join(this.#dir, name));
        return [];
      });
  }

  #path(uploadId: string): string {
    return join(this.#dir, `${uploadId}.json`);
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
