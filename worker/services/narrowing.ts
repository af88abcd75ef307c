import { type Result, success } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { ask, tell } from "../objects.ts";

/** An object that can take something away; see `IdentityApi`, `AccountApi` and `VmApi`. */
interface Narrowable {
  untold(): Promise<readonly string[]>;
}

/**
 * Makes a change that takes something away, and notes for the answer which regions could not be told of it yet: verifiers there may go by
 * the old state for longer than elsewhere (`docs/consistency.md`), until the object has told them. `object` makes a new stub.
 */
export async function narrowing<Narrowed extends Narrowable, T>(
  edge: Edge,
  object: () => Narrowed,
  change: (object: Narrowed) => Promise<Result<T>>,
): Promise<Result<T>> {
  const changed = await tell(() => change(object()));
  if (!changed.ok) return changed;
  const untold = await ask(async () => success(await object().untold()));
  for (const region of untold.ok ? untold.value : []) edge.untold.add(region);
  return changed;
}
