import { sha256Hex } from "../../protocol/bytes.ts";
import { logEvent } from "../log.ts";
import type { Colo } from "./colo.ts";

/**
 * Names nobody's host, so that no request from outside can have this address. `v2` is the form of the values: a build with
 * another form must use another address.
 */
const ORIGIN = "https://verdicts.postern.invalid/v2/";

/**
 * The Cache API of this location. Addresses are SHA-256 over keys that themselves hold only a hash of a secret, so neither a
 * log of the cache nor its operator learns a credential.
 */
export const coloCache: Colo = {
  async get(key) {
    return attempt("match", async () => {
      const found = await caches.default.match(await addressOf(key));
      return found === undefined ? null : await found.json();
    });
  },
  async put(key, value, maxAgeMs) {
    const headers = { "cache-control": `max-age=${Math.ceil(maxAgeMs / 1000)}`, "content-type": "application/json" };
    await attempt("put", async () => caches.default.put(await addressOf(key), Response.json(value, { headers })));
  },
  async drop(key) {
    await attempt("delete", async () => caches.default.delete(await addressOf(key)));
  },
};

async function addressOf(key: string): Promise<string> {
  return `${ORIGIN}${await sha256Hex(key)}`;
}

async function attempt<T>(what: string, call: () => Promise<T>): Promise<T | undefined> {
  try {
    return await call();
  } catch (error) {
    logEvent("colo-cache-failed", { what, reason: error instanceof Error ? error.name : "unknown" });
    return undefined;
  }
}
