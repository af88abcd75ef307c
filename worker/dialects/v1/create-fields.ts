import { NOT_OFFERED } from "../../services/honoured.ts";

const NO_DOMAINS = "domain names of your own are not offered here: every VM has a name, and `ports` opens it to everybody";

/** Whether a value of one member asks for something that a VM made without it does not have. */
type Harmless = (value: unknown) => boolean;

const onlyNull: Harmless = () => false;
const anything: Harmless = () => true;
const isFalse: Harmless = (value) => value === false;
const isEmptyList: Harmless = (value) => Array.isArray(value) && value.length === 0;
const isEmptyObject: Harmless = (value) =>
  typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(isNothing);

/**
 * Members of a create body that are known but not honoured, with the values that may stay because they ask for nothing.
 * Null and absent always may. `docs/create-fields.md` explains each row.
 */
export const UNHONOURED_FIELDS: Readonly<Record<string, Harmless>> = {
  aptDeps: isEmptyList,
  baseImage: onlyNull,
  discriminator: anything,
  dockerCredentials: onlyNull,
  domains: isEmptyList,
  git: isEmptyObject,
  gitRepos: isEmptyList,
  nics: isEmptyList,
  readySignalTimeoutSeconds: anything,
  recreate: isFalse,
  skipCache: anything,
  snapshot: onlyNull,
  spec: onlyNull,
  systemd: isEmptyObject,
  template: onlyNull,
  udpHolePunchPorts: isEmptyList,
  waitForReadySignal: anything,
  workdir: onlyNull,
};

/** Whether a member may stay in a create body although it is not honoured. Unknown members may only be null. */
export function asksForNothing(name: string, value: unknown): boolean {
  if (value === null || value === undefined) return true;
  return Object.hasOwn(UNHONOURED_FIELDS, name) && (UNHONOURED_FIELDS[name]?.(value) ?? false);
}

/** What a refusal says after the name of a member. */
export function whyRefused(name: string): string {
  return name === "domains" ? NO_DOMAINS : NOT_OFFERED;
}

function isNothing(value: unknown): boolean {
  return value === null || value === undefined || isEmptyList(value) || isEmptyObject(value);
}
