import { z } from "zod";
import { DEFAULT_SETTINGS } from "../durable-objects/settings.ts";

const positive = (fallback: number) => z.coerce.number().int().positive().default(fallback);

/**
 * Settings of the Worker, read from environment variables of the same names. `docs/edge-settings.md` lists them with what
 * each one is for.
 */
const edgeSettings = z.object({
  /** Most bytes of a JSON request body, files excepted. Exec takes 1 MiB of stdin, which base64 makes 1.4 MiB. */
  MAX_JSON_BYTES: positive(2 * 1024 * 1024),
  /** Most bytes of a file written in one request; it is held in memory while it is decoded. */
  MAX_FILE_WRITE_BYTES: positive(16 * 1024 * 1024),
  /** Longest time-out that an exec may ask for, in milliseconds. */
  EXEC_MAX_TIMEOUT_MS: positive(300_000),
  /** How long a host may take to begin its answer, in milliseconds. Longer than any exec may run. */
  HOST_TIMEOUT_MS: positive(330_000),
  /** The objects' longest page, which is also the size of a page when the caller names none. */
  MAX_PAGE_SIZE: positive(DEFAULT_SETTINGS.MAX_PAGE_SIZE),
  /** Longest life of an access token that is made with an expiry, in seconds. */
  TOKEN_MAX_LIFE_S: positive(10 * 365 * 24 * 3600),
  /** How long a verifier or a cache may keep the ticket keys, in seconds. */
  JWKS_MAX_AGE_S: positive(60),
  /** How long a browser may keep the answer to a preflight, in seconds. */
  CORS_MAX_AGE_S: positive(86_400),
  /** What `Retry-After` tells callers of something that is away for a moment, in seconds. */
  RETRY_AFTER_S: positive(2),
});

export type Settings = z.output<typeof edgeSettings>;

/** Environment variables that change the settings; every one is optional. */
export type SettingVars = { readonly [Name in keyof Settings]?: string };

/** Reads the settings. Throws when one is malformed or they contradict each other: better no answers than wrong limits. */
export function readSettings(vars: SettingVars): Settings {
  const settings = edgeSettings.parse(vars);
  if (settings.HOST_TIMEOUT_MS <= settings.EXEC_MAX_TIMEOUT_MS) {
    throw new Error("HOST_TIMEOUT_MS must exceed EXEC_MAX_TIMEOUT_MS");
  }
  return settings;
}
