/**
 * Limits and times of the objects. Each is a wrangler var of the same name when a deployment wants another value; `_MS` is
 * milliseconds, the rest are counts. See docs/settings.md.
 */
export const DEFAULT_SETTINGS = {
  /** Most VMs of one account that are not deleted. */
  MAX_VMS_PER_ACCOUNT: 1_000,
  /** Most snapshots of one account that are not deleted. */
  MAX_SNAPSHOTS_PER_ACCOUNT: 200,
  /** Most identities of one account. */
  MAX_IDENTITIES_PER_ACCOUNT: 100_000,
  /** Most live API keys of one account. */
  MAX_KEYS_PER_ACCOUNT: 100,
  /** Most live access tokens of one identity. */
  MAX_TOKENS_PER_IDENTITY: 1_000,
  /** Most VMs granted to one identity. */
  MAX_GRANTS_PER_IDENTITY: 1_000,
  /** Most Linux users that one grant may list. */
  MAX_USERS_PER_GRANT: 256,
  /** How long an account remembers what an `Idempotency-Key` made. */
  IDEMPOTENCY_KEEP_MS: 24 * 3_600_000,
  /** Longest page of any list. */
  MAX_PAGE_SIZE: 1_000,
  /** How long the rows of revoked and expired credentials are kept. */
  CREDENTIAL_KEEP_MS: 30 * 24 * 3_600_000,
  /** How long a narrowing change waits for the regions before it answers; what is late is redelivered by alarm. */
  FLOOR_DELIVERY_MS: 1_500,
  /** First wait before a floor is delivered again; doubles up to `FLOOR_RETRY_MAX_MS`. */
  FLOOR_RETRY_MIN_MS: 1_000,
  FLOOR_RETRY_MAX_MS: 60_000,
  /** How long a region keeps a floor for late joiners. At least the verifiers' own `floorKeepMs`. */
  FLOOR_KEEP_MS: 300_000,
  /** A host whose last heartbeat is older counts as gone, even if its socket looks open. */
  HOST_SILENCE_MS: 10_000,
  /** Longest wait for a host to create a machine, and to do anything else to one. */
  VM_CREATE_LIMIT_MS: 120_000,
  VM_CALL_LIMIT_MS: 60_000,
  /** Longest wait for a host to capture a disk. */
  SNAPSHOT_LIMIT_MS: 300_000,
  /** How soon an operation that a crash cut short is looked at again; also the first wait before a retry. */
  VM_RECOVERY_MS: 5_000,
  /** Longest wait between two attempts to finish what a host did not answer. */
  VM_RETRY_MAX_MS: 300_000,
  /** Most operations that wait for one VM; more are refused as `vm-busy`. */
  VM_QUEUE_MAX: 8,
  /** How long a VM's object holds one question that waits for the VM to come to rest; whoever waits longer asks again. */
  VM_AWAIT_STEP_MS: 20_000,
  /** How long a new ticket key is published before it signs; more than verifiers keep a key set (`keySetKeepMs`). */
  KEY_PUBLISH_LEAD_MS: 180_000,
  /** Between two ticket keys. */
  KEY_ROTATION_MS: 7 * 24 * 3_600_000,
  /** How long the edge may keep the signing key in memory; capped by `KEY_PUBLISH_LEAD_MS`. */
  KEY_HOLD_MS: 120_000,
  /** How much longer than its last ticket a replaced key stays published. */
  KEY_RETIRE_MARGIN_MS: 60_000,
  /** How long a region tells newcomers of a withdrawn ticket key; longer than any cache keeps the key set. */
  KEY_VOID_KEEP_MS: 24 * 3_600_000,
  /** How long an account's audit trail goes back, and the most events that it keeps. */
  AUDIT_KEEP_MS: 30 * 24 * 3_600_000,
  AUDIT_MAX_EVENTS: 100_000,
} as const;

export type SettingName = keyof typeof DEFAULT_SETTINGS;
export type Settings = Readonly<Record<SettingName, number>>;

/** Reads the settings. Throws when one is not a whole number of at least 1: a deployment must not run on a typing error. */
export function readSettings(env: Readonly<Partial<Record<SettingName, string>>>): Settings {
  const settings: Record<string, number> = {};
  for (const [name, fallback] of Object.entries(DEFAULT_SETTINGS)) {
    const text = env[name as SettingName];
    const value = text === undefined || text === "" ? fallback : Number(text);
    if (!Number.isSafeInteger(value) || value < 1) throw new Error(`setting ${name} must be a whole number of at least 1`);
    settings[name] = value;
  }
  return settings as Settings;
}

/** The deployment's regions, in the order of the setting `REGIONS`. */
export function readRegions(setting: string): readonly string[] {
  return setting
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
}
