import { importMacKeys, type MacKeys } from "../../protocol/tokens.ts";

let imported: { readonly setting: string; readonly keys: MacKeys } | undefined;

/** The MAC keys of the deployment if this isolate has imported them, without a promise. */
export function importedMacKeys(env: { readonly TOKEN_MAC_KEYS: string }): MacKeys | null {
  return imported?.setting === env.TOKEN_MAC_KEYS ? imported.keys : null;
}

/** The MAC keys of the deployment, imported once per isolate. Throws when the setting is malformed. */
export async function macKeysOf(env: { readonly TOKEN_MAC_KEYS: string }): Promise<MacKeys> {
  const known = importedMacKeys(env);
  if (known !== null) return known;
  const keys = await importMacKeys(env.TOKEN_MAC_KEYS);
  imported = { setting: env.TOKEN_MAC_KEYS, keys };
  return keys;
}
