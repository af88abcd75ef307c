import { DurableObject } from "cloudflare:workers";
import { type Clock, platformRandomBytes, type RandomBytes } from "../protocol/bytes.ts";
import { importMacKeys, type MacKeys } from "../protocol/tokens.ts";
import type { Page } from "./contract.ts";
import type { Env } from "./env.ts";
import { Schema } from "./schema.ts";
import { readSettings, type Settings } from "./settings.ts";

/** What every object has: its tables, and the settings, clock and randomness, which tests may replace. */
export abstract class StoredObject extends DurableObject<Env> {
  clock: Clock = Date.now;
  randomBytes: RandomBytes = platformRandomBytes;
  protected readonly schema: Schema;
  settings: Settings;
  #macKeys: Promise<MacKeys> | null = null;

  constructor(ctx: DurableObjectState, env: Env, steps: readonly string[]) {
    super(ctx, env);
    this.settings = readSettings(env);
    this.schema = new Schema(ctx.storage, steps);
  }

  protected get sql(): SqlStorage {
    return this.ctx.storage.sql;
  }

  protected macKeys(): Promise<MacKeys> {
    this.#macKeys ??= importMacKeys(this.env.TOKEN_MAC_KEYS);
    return this.#macKeys;
  }

  /** `LIMIT` and `OFFSET` of a page, within bounds whatever was asked. */
  protected bounds(page: Page): readonly [limit: number, offset: number] {
    const limit = Math.min(Math.max(Math.trunc(page.limit) || 0, 0), this.settings.MAX_PAGE_SIZE);
    return [limit, Math.max(Math.trunc(page.offset) || 0, 0)];
  }
}
