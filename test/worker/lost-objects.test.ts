import { abortAllDurableObjects, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { forgetCaches } from "../../worker/cache/edge-caches.ts";
import { bindings } from "../durable-objects/objects.ts";
import { CountedEdge } from "./support/counted-edge.ts";
import { call, type Identity, must, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

/** Objects that go away, or have more to do than they can, while they are asked: seen by callers, over HTTP. */

let world: World;
let vmId: string;
let identity: Identity;
beforeEach(async () => {
  world = await openWorld();
  vmId = await newVm(world.account);
  identity = await newIdentity(world.account, [vmId]);
});

const newToken = () =>
  must<{ id: string; token: string }>(`/identity/v1/identities/${identity.id}/tokens`, { method: "POST", key: world.account.key });
const revoke = (tokenId: string) =>
  call(`/identity/v1/identities/${identity.id}/tokens/${tokenId}`, { method: "DELETE", key: world.account.key });
const exec = (token: string) =>
  call(`/v1/vms/${vmId}/exec-await`, { method: "POST", token, body: { command: "true", terminal: null, timeoutMs: null } });
/** Answered by the edge itself, from the objects. */
const read = (token: string) => call(`/v1/vms/${vmId}`, { token });

const ROUNDS = 5;

/** Asked again while the answer is that nobody knows. */
const tokenInTheEnd = () => vi.waitFor(newToken, 10_000);

it("while every object is aborted again and again, sockets and all, who may is never told otherwise, and what was acknowledged is kept", async () => {
  // A host whose feed breaks goes on for some seconds by what it heard.
  world.host.isFeedUp = false;
  const seen: number[] = [];
  let isOver = false;
  const load = [exec, read, exec, read].map(async (ask) => {
    while (!isOver) {
      forgetCaches();
      const answer = await ask(identity.token);
      await answer.arrayBuffer();
      seen.push(answer.status);
    }
  });
  const made: string[] = [];
  const gone: string[] = [];
  try {
    for (let round = 0; round < ROUNDS; round += 1) {
      const [kept, dropped] = [await tokenInTheEnd(), await tokenInTheEnd()];
      const [answer] = await Promise.all([revoke(dropped.id), abortAllDurableObjects()]);
      made.push(kept.token);
      if (answer.ok) gone.push(dropped.token);
      else expect(answer.status).toBe(503);
    }
  } finally {
    isOver = true;
    await Promise.all(load);
  }
  expect(seen.filter((status) => status !== 200 && status !== 503)).toEqual([]);
  expect(seen).toContain(200);
  for (const token of made) expect((await read(token)).status).toBe(200);
  for (const token of gone) expect((await read(token)).status).toBe(401);
});

describe("an identity's object with more to do than it can", () => {
  it("sheds 503 with Retry-After at once, never 401, serves the others when it can, and nobody who may not", async () => {
    const edge = new CountedEdge({ OBJECT_MAX_INFLIGHT: "4" });
    const revoked = await newToken();
    await revoke(revoked.id);
    const ask = (token: string, linuxUser: string) =>
      edge.fetch(`/v1/vms/${vmId}/exec-await`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "x-freestyle-identity-access-token": token,
          "x-freestyle-vm-linux-user-id": linuxUser,
        },
        body: JSON.stringify({ command: "true", terminal: null, timeoutMs: null }),
      });
    const gate = Promise.withResolvers<void>();
    const object = bindings.IDENTITY.getByName(identity.id);
    const held = Promise.withResolvers<void>();
    const holding = runInDurableObject(object as unknown as DurableObjectStub, (_object, state) =>
      state.blockConcurrencyWhile(async () => {
        held.resolve();
        await gate.promise;
      }),
    );
    await held.promise;
    // Each asks about another Linux user, so that none can share another's answer.
    const asked = Array.from({ length: 40 }, (_, nth) => ask(nth % 10 === 9 ? revoked.token : identity.token, `user${nth}`));
    const answers: Response[] = [];
    for (const one of asked) one.then((answer) => answers.push(answer));
    await vi.waitFor(() => expect(answers).toHaveLength(asked.length - 4), 10_000);
    const shed = answers.map((answer) => [answer.status, answer.headers.get("retry-after")]);
    expect(shed).toEqual(shed.map(() => [503, "2"]));
    gate.resolve();
    await holding;
    expect((await Promise.all(asked)).filter(({ status }) => status === 200)).toHaveLength(4);
    // The flood once more, without anything in the way.
    const flood = await Promise.all(
      Array.from({ length: 40 }, async (_, nth) => {
        const isRevoked = nth % 4 === 3;
        return [isRevoked, (await ask(isRevoked ? revoked.token : identity.token, `again${nth}`)).status] as const;
      }),
    );
    for (const [isRevoked, status] of flood) expect(isRevoked ? [401, 503] : [200, 503]).toContain(status);
    expect(flood.map(([, status]) => status)).toContain(200);
    expect((await ask(revoked.token, "last")).status).toBe(401);
    expect((await ask(identity.token, "last")).status).toBe(200);
  });
});
