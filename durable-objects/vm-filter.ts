import type { VmFilter } from "./vm-contract.ts";

/** A condition on the account's index of VMs, joined with its slugs. */
export interface FilterClause {
  /** Empty, or `WHERE …`. */
  readonly where: string;
  readonly bindings: readonly string[];
  /** Nothing but the state narrows the list, so the kept counts say how many there are. */
  readonly isIndexed: boolean;
}

/** A filter as SQL; whatever the caller sent is bound, never spliced. */
export function filterClause({ includeDeleted, state, slug, snapshotId, metadata = {}, search }: VmFilter): FilterClause {
  const terms: string[] = [];
  const bindings: string[] = [];
  const add = (term: string, ...values: readonly string[]) => {
    terms.push(term);
    bindings.push(...values);
  };
  if (state !== undefined) add("state = ?", state);
  else if (!includeDeleted) add("state <> 'deleted'");
  const byState = terms.length;
  if (slug !== undefined) add("slugs.slug = ?", slug);
  if (snapshotId !== undefined) add("snapshot_id = ?", snapshotId);
  for (const [key, value] of Object.entries(metadata)) {
    add("EXISTS (SELECT 1 FROM json_each(details, '$.metadata') AS entry WHERE entry.key = ? AND entry.value = ?)", key, value);
  }
  if (search !== undefined) {
    const part = search.toLowerCase();
    add("(instr(id, ?) OR instr(lower(COALESCE(name, '')), ?) OR instr(COALESCE(slugs.slug, ''), ?))", part, part, part);
  }
  const where = terms.length === 0 ? "" : `WHERE ${terms.join(" AND ")}`;
  return { where, bindings, isIndexed: terms.length === byState };
}
