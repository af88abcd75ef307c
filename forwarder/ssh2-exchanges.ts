/**
 * Tells of each key exchange that a protocol of `ssh2` 1.17.0 begins: the moment between its negotiation and its first computation.
 * `test/forwarder/hybrid-kex.test.ts` and `test/forwarder/large-exchanges.test.ts` fail when what is private here moves.
 */

type Watcher = (exchange: object) => void;

const watched = new WeakMap<object, { kex: unknown; readonly watchers: Watcher[] }>();

/** One for all protocols: one of its own would cost each of them a shape of its own. */
const KEX: PropertyDescriptor & ThisType<object> = {
  enumerable: true,
  get() {
    return watched.get(this)?.kex;
  },
  set(next: unknown) {
    const entry = watched.get(this);
    if (entry === undefined) return;
    entry.kex = next;
    if (isExchange(next)) for (const watcher of entry.watchers) watcher(next);
  },
};

/** `watcher` is called with every exchange of the protocol, of those that begin from now on, in the order of these calls. */
export function watchExchanges(protocol: { _kex: unknown }, watcher: Watcher): void {
  const entry = watched.get(protocol);
  if (entry !== undefined) {
    entry.watchers.push(watcher);
    return;
  }
  watched.set(protocol, { kex: protocol._kex, watchers: [watcher] });
  Object.defineProperty(protocol, "_kex", KEX);
}

/** What is left of an exchange after the login (`ssh2-after-login.ts`) is none. */
function isExchange(value: unknown): value is object {
  return typeof value === "object" && value !== null && typeof Reflect.get(value, "parse") === "function";
}
