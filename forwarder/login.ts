import type { Result } from "../protocol/failures.ts";
import { type Login, parseLogin } from "../protocol/login.ts";
import type { Admission } from "./admission.ts";
import { printable } from "./text.ts";

/** One authentication request (RFC 4252 section 5) that carries what can decide a login; `secret` is the typed answer. */
export type Attempt =
  | { readonly user: string; readonly method: "none" | "other" }
  | { readonly user: string; readonly method: "password" | "keyboard-interactive"; readonly secret: string };

/** What to answer. `banner` is shown to the person before the refusal. */
export type LoginStep =
  | { readonly action: "accept"; readonly admission: Admission }
  | { readonly action: "refuse"; readonly methods: readonly LoginMethod[]; readonly banner: string | null }
  | { readonly action: "disconnect"; readonly text: string };

export type LoginMethod = "password" | "keyboard-interactive";

/** Decides a parsed login by a secret. */
export type Admit = (login: Login, secret: string) => Promise<Result<Admission>>;

const METHODS: readonly LoginMethod[] = ["password", "keyboard-interactive"];

const WRONG_FORM = "The SSH user name must be vm-id, vm-id+linux-user, or either with :token or ,token after it.";

/**
 * The state of one connection's login. A token in the user name decides, whatever method carries it, and once refused
 * leaves nothing to try; without one the secret is asked for. A public key never decides anything.
 */
export class LoginAttempts {
  readonly #admit: Admit;
  readonly #maxAttempts: number;
  #attempts = 0;
  #asked = false;

  constructor(admit: Admit, maxAttempts: number) {
    this.#admit = admit;
    this.#maxAttempts = maxAttempts;
  }

  /** Whether a keyboard-interactive request must be answered with a question before it can be decided. */
  needsAnswer(user: string): boolean {
    const parsed = parseLogin(user);
    return parsed.ok && parsed.login.token === null;
  }

  /** Decides one request. Requests must be given one at a time. */
  async decide(attempt: Attempt): Promise<LoginStep> {
    const parsed = parseLogin(attempt.user);
    // A client opens with `none` to learn the methods: not a try, as for OpenSSH's own server.
    const opening = attempt.method === "none" && !this.#asked && parsed.ok && parsed.login.token === null;
    this.#asked = true;
    if (!opening) this.#attempts += 1;
    if (this.#attempts > this.#maxAttempts) return { action: "disconnect", text: "Too many login attempts." };
    if (!parsed.ok) return this.#refuse([], WRONG_FORM);
    const { login } = parsed;
    const secret = login.token ?? ("secret" in attempt ? attempt.secret : null);
    if (attempt.method === "other" || secret === null) return this.#refuse(METHODS, null);
    if (secret === "") return this.#refuse(METHODS, null);
    const admitted = await this.#admit(login, secret);
    if (admitted.ok) return { action: "accept", admission: admitted.value };
    return this.#refuse(login.token === null ? METHODS : [], admitted.failure.message);
  }

  #refuse(methods: readonly LoginMethod[], reason: string | null): LoginStep {
    if (this.#attempts < this.#maxAttempts) {
      return { action: "refuse", methods, banner: reason === null ? null : printable(reason) };
    }
    return { action: "disconnect", text: printable(`${reason ?? ""} Too many login attempts.`) };
  }
}
