import { isVmId } from "./ids.ts";
import { isLinuxUser } from "./linux-user.ts";

/** The parts of an SSH user name: `vm[+user][:token]` or `vm[+user][,token]`. */
export interface Login {
  readonly vmId: string;
  /** `null`: none was named. */
  readonly linuxUser: string | null;
  /** `null`: none was given, so it is asked for as the password. Not yet checked in any way. */
  readonly token: string | null;
}

export type ParsedLogin =
  | { readonly ok: true; readonly login: Login }
  | { readonly ok: false; readonly reason: "too-long" | "vm-id" | "linux-user" | "token-empty" };

/** Longest SSH user name that is looked at: VM id, separator, Linux user, separator, credential, with room to spare. */
const MAX_LOGIN_LENGTH = 128;

/**
 * Splits an SSH user name. The first `:` or `,` starts the token, so that both the colon form of the documents and the
 * comma form that `scp` and `sftp` need are read alike.
 */
export function parseLogin(name: string): ParsedLogin {
  if (name.length > MAX_LOGIN_LENGTH) return { ok: false, reason: "too-long" };
  const separator = name.search(/[:,]/);
  const target = separator === -1 ? name : name.slice(0, separator);
  const token = separator === -1 ? null : name.slice(separator + 1);
  const plus = target.indexOf("+");
  const vmId = plus === -1 ? target : target.slice(0, plus);
  const linuxUser = plus === -1 ? null : target.slice(plus + 1);
  if (!isVmId(vmId)) return { ok: false, reason: "vm-id" };
  if (linuxUser !== null && !isLinuxUser(linuxUser)) return { ok: false, reason: "linux-user" };
  if (token === "") return { ok: false, reason: "token-empty" };
  return { ok: true, login: { vmId, linuxUser, token } };
}
