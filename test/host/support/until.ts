import { setTimeout as delay } from "node:timers/promises";

/** Waits until `holds` answers true, looking again and again; fails after a generous deadline. */
export async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await delay(10);
  }
}
