import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { isFailure, type Result } from "../protocol/failures.ts";
import { type ExecAnswer, execAnswer } from "../protocol/host-api.ts";
import { isBackgroundId, isVmId } from "../protocol/ids.ts";
import { IMAGE_USER, isLinuxUser } from "../protocol/linux-user.ts";
import { writeFileAtomically } from "../service/atomic-file.ts";

const jobRecord = z.object({
  id: z.string().refine(isBackgroundId),
  vmId: z.string().refine(isVmId),
  /** As the ticket had it: `IMAGE_USER` stays what it is, and only who may mean it again gets the result. */
  linuxUser: z.union([z.string().refine(isLinuxUser), z.literal(IMAGE_USER)]),
  /** `sub` of the ticket that began it. */
  subject: z.string(),
  /** Milliseconds since 1970 UTC; null: no result was written. */
  endedAt: z.number().nullable(),
  /** Bytes of the written result. */
  bytes: z.int().default(0),
});

/** What is kept of a job beside its result. */
export type JobRecord = Readonly<z.infer<typeof jobRecord>>;

/** Jobs on disk, mode 0600, in `<state>/jobs`: `<id>.json`, and `<id>.result` once it ended. */
export class JobStore {
  readonly #dir: string;

  constructor(stateDir: string) {
    this.#dir = join(stateDir, "jobs");
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
  }

  /** Every record. A damaged one is dropped: its result would be forgotten soon anyway. */
  list(): JobRecord[] {
    const names = readdirSync(this.#dir).filter((name) => name.endsWith(".json"));
    return names.flatMap((name) => {
      try {
        return [jobRecord.parse(JSON.parse(readFileSync(join(this.#dir, name), "utf8")))];
      } catch {
        rmSync(join(this.#dir, name), { force: true });
        return [];
      }
    });
  }

  save(record: JobRecord): void {
    writeFileAtomically(this.#path(record.id, "json"), JSON.stringify(record));
  }

  /** Writes a result, then says that it is there. */
  async finish(record: JobRecord, result: Result<ExecAnswer>, now: number): Promise<JobRecord> {
    const content = Buffer.from(JSON.stringify(result.ok ? result.value : result.failure));
    const temporary = this.#path(record.id, "result.new");
    try {
      await writeFile(temporary, content, { mode: 0o600 });
      await rename(temporary, this.#path(record.id, "result"));
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
    const ended = { ...record, endedAt: now, bytes: content.byteLength };
    this.save(ended);
    return ended;
  }

  /** The result of a job that ended. */
  async result(id: string): Promise<Result<ExecAnswer>> {
    const stored: unknown = JSON.parse(await readFile(this.#path(id, "result"), "utf8"));
    return isFailure(stored) ? { ok: false, failure: stored } : { ok: true, value: execAnswer.parse(stored) };
  }

  remove(id: string): void {
    for (const suffix of ["json", "result", "result.new"]) rmSync(this.#path(id, suffix), { force: true });
  }

  #path(id: string, suffix: string): string {
    return join(this.#dir, `${id}.${suffix}`);
  }
}
