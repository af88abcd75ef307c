import * as sdk63 from "freestyle-0.1";
import * as sdk46 from "freestyle-sandboxes";
import { expect } from "vitest";

/**
 * The client as both packages really are. 0.1.63 runs the same surface, but its public types declare less of it than
 * 0.1.46's do (`spec` facts: `users`, `user()`, `getInfo()` and `Errors` are there and undeclared), so 0.1.46's stand for both.
 */
export type Sdk = sdk46.Freestyle;
export type SdkVm = sdk46.Vm;

type Constructor = new (options: { baseUrl: string } & ({ apiKey: string } | { accessToken: string })) => Sdk;

/** One real package: its name, version, client class and error classes. */
export interface Package {
  readonly name: string;
  /** Folder in node_modules. */
  readonly folder: string;
  readonly Freestyle: Constructor;
  readonly Errors: Readonly<Record<string, unknown>>;
}

export const PACKAGE_46: Package = {
  name: "freestyle-sandboxes 0.1.46",
  folder: "freestyle-sandboxes",
  Freestyle: sdk46.Freestyle,
  Errors: sdk46.Errors,
};

export const PACKAGE_63: Package = {
  name: "freestyle 0.1.63",
  folder: "freestyle-0.1",
  ...(sdk63 as unknown as Pick<Package, "Freestyle" | "Errors">),
};

export const PACKAGES: readonly Package[] = [PACKAGE_46, PACKAGE_63];

/** The error body that every refusal carries (both dialects' members in one). */
export interface ErrorBody {
  readonly code: string;
  readonly message: string;
  readonly error: string;
  readonly description: string;
  readonly [extra: string]: unknown;
}

/** Expects a call to be refused with the package's own class for the code, and answers the error's body. */
export async function expectRefusal(from: Package, call: Promise<unknown>, className: string): Promise<ErrorBody> {
  const outcome = await call.then(
    (value) => ({ refused: false as const, value }),
    (error: unknown) => ({ refused: true as const, error }),
  );
  if (!outcome.refused) expect.fail(`expected ${className}, but the call answered ${JSON.stringify(outcome.value)}`);
  const { error } = outcome;
  const ErrorClass = from.Errors[className];
  if (typeof ErrorClass !== "function") expect.fail(`${from.name} has no class ${className}`);
  if (!(error instanceof ErrorClass)) expect.fail(`expected ${className}, but the call threw ${String(error)}`);
  return (error as { body: ErrorBody }).body;
}
