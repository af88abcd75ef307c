import type { Account } from "./account.ts";
import type { Audit } from "./audit.ts";
import type { BackgroundRequest } from "./background-request.ts";
import type { Identity } from "./identity.ts";
import type { Region } from "./region.ts";
import type { SettingName } from "./settings.ts";
import type { SigningKeys } from "./signing-keys.ts";
import type { Snapshot } from "./snapshot.ts";
import type { Vm } from "./vm.ts";

/** Bindings of the edge, as `wrangler.toml` declares them, and any setting of `settings.ts` that a deployment changes. */
export interface Env extends Readonly<Partial<Record<SettingName, string>>> {
  readonly ACCOUNT: DurableObjectNamespace<Account>;
  readonly IDENTITY: DurableObjectNamespace<Identity>;
  readonly VM: DurableObjectNamespace<Vm>;
  readonly REGION: DurableObjectNamespace<Region>;
  readonly SNAPSHOT: DurableObjectNamespace<Snapshot>;
  readonly SIGNING_KEYS: DurableObjectNamespace<SigningKeys>;
  readonly AUDIT: DurableObjectNamespace<Audit>;
  readonly BACKGROUND_REQUEST: DurableObjectNamespace<BackgroundRequest>;
  /** Secret: MAC keys for credentials, newest first. */
  readonly TOKEN_MAC_KEYS: string;
  /** Secret: SHA-256 of the operator's key, hexadecimal. */
  readonly OPERATOR_KEY_SHA256: string;
  /** `iss` of tickets. */
  readonly ISSUER: string;
  /** Names of the regions, comma-separated; the first one takes new VMs that name none. */
  readonly REGIONS: string;
  /** Where people reach the SSH ingress; shown in commands that the API prints. */
  readonly SSH_HOST: string;
  readonly SSH_PORT: string;
}
