import { importMacKeys, type MacKeys } from "../../protocol/tokens.ts";

let imported: { readonly setting: string; readonly keys: MacKeys } | undefined;

/** The MAC keys of the deployment, imported once per isolate. Throws when the setting is malformed. */
export async function macKeysOf(env: { readonly TOKEN_MAC_KEYS: string }): Promise<MacKeys> {
  if (imported?.setting === env.TOKEN_MAC_KEYS) return imported.keys;
  const keys = await importMacKeys(env.TOKEN_MAC_KEYS);
  imported = { setting: env.TOKEN_MAC_KEYS, keys };
  return keys;
}
