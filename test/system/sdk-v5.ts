import { Freestyle, FreestyleApiError, type Vm } from "freestyle-0.2";
import { expect, onTestFinished } from "vitest";
import { system } from "./fixture.ts";

/** Sent by the package's CLI for a VM that reaches the internet. */
export const INTERNET = { rules: [{ action: "allow" as const, source: {}, destination: { public: true as const } }] };

/** A 0.2.17 client that holds an API key. */
export function keyClientV5(apiKey: string): Freestyle {
  return new Freestyle({ baseUrl: system.apiUrl, apiKey });
}

/** A 0.2.17 client that holds an access token. */
export function tokenClientV5(identityAccessToken: string): Freestyle {
  return new Freestyle({ baseUrl: system.apiUrl, identityAccessToken });
}

type CreateOptions = Parameters<Freestyle["vms"]["create"]>[0];

/** A VM that reaches the internet and is deleted when the test is over. */
export async function testVmV5(client: Freestyle, options: Partial<CreateOptions> = {}) {
  const created = await client.vms.create({ firewall: INTERNET, ...options });
  onTestFinished(() => deleteVmV5(client, created.vm.id));
  return created;
}

/** Deletes a VM; one that a test deleted itself is no error. */
export async function deleteVmV5(client: Freestyle, vmId: string): Promise<void> {
  try {
    await client.vms.delete(vmId);
  } catch (error) {
    if (!(error instanceof FreestyleApiError) || error.status !== 404) throw error;
  }
}

/** An identity with a token and a grant on a VM. */
export async function testIdentityV5(client: Freestyle, vm: Vm, allowedLinuxUsers: string[] | null = null) {
  const { identity } = await client.identities.create();
  await identity.permissions.vm.grant({ vmId: vm.id, allowedLinuxUsers });
  const { token, id } = await identity.tokens.create();
  return { identity, token, tokenId: id };
}

/** Expects the package's own error for a refusal, with this status and code, and answers its message. */
export async function expectRefusalV5(call: Promise<unknown>, refusal: `${number} ${string}`): Promise<string> {
  const outcome = await call.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if (!("error" in outcome)) expect.fail(`expected ${refusal}, but the call answered ${JSON.stringify(outcome.value)}`);
  const { error } = outcome;
  if (!(error instanceof FreestyleApiError)) expect.fail(`expected ${refusal}, but the call threw ${String(error)}`);
  expect(`${error.status} ${error.code}`).toBe(refusal);
  return error.message;
}
