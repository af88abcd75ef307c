import { failure, type Result, success } from "../protocol/failures.ts";
import type { SlugWish } from "./vm-contract.ts";

/** The slugs of an account's VMs: one VM a slug, one slug a VM. The only place that knows them. */
export const SLUGS_TABLE = "CREATE TABLE slugs (slug TEXT PRIMARY KEY, vm_id TEXT NOT NULL UNIQUE) WITHOUT ROWID;";

/** Reads and writes the table of slugs; whether a VM exists is for the caller to know. */
export class Slugs {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  /** The id of the VM that holds a slug. */
  holder(slug: string): string | null {
    const [row] = this.#sql.exec<{ vm_id: string }>("SELECT vm_id FROM slugs WHERE slug = ?", slug).toArray();
    return row?.vm_id ?? null;
  }

  of(vmId: string): string | null {
    const [row] = this.#sql.exec<{ slug: string }>("SELECT slug FROM slugs WHERE vm_id = ?", vmId).toArray();
    return row?.slug ?? null;
  }

  /** Gives a VM a slug in place of its own, taking it from its holder only if that was asked for. */
  take(vmId: string, { slug, reassign }: SlugWish): Result<null> {
    const holder = this.holder(slug);
    if (holder !== null && holder !== vmId && !reassign) {
      const message = `Another VM of this account has the slug "${slug}". Choose another, or send reassignSlug to take it.`;
      return failure("conflict", message);
    }
    this.#sql.exec("INSERT OR REPLACE INTO slugs (slug, vm_id) VALUES (?, ?)", slug, vmId);
    return success(null);
  }

  /** The VM has no slug any more. */
  release(vmId: string): void {
    this.#sql.exec("DELETE FROM slugs WHERE vm_id = ?", vmId);
  }
}
