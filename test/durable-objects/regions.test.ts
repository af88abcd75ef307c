import { reset, runInDurableObject } from "cloudflare:test";
import { afterEach, describe, expect, it } from "vitest";
import { OUTBOX_BY_SUBJECT, OUTBOX_TABLE, Outbox } from "../../durable-objects/outbox.ts";
import { DEFAULT_SETTINGS } from "../../durable-objects/settings.ts";
import { regionObjectName } from "../../protocol/ids.ts";
import { identitySubject } from "../../protocol/subjects.ts";
import { bindings, freshName, newAccount, newIdentity, runSql } from "./objects.ts";

const REGIONS = ["eu", "us", "ap"];

afterEach(async () => {
  await reset();
});

const regionOf = async (name: string) => bindings.REGION.getByName(await regionObjectName(name));
const floorsOf = async (name: string) => runSql(await regionOf(name), "SELECT sub, epoch FROM floors");

/** Runs with the outbox of an identity in a deployment of several regions. */
async function withOutbox<T>(identity: unknown, use: (outbox: Outbox, storage: DurableObjectStorage) => Promise<T>): Promise<T> {
  return runInDurableObject(identity as DurableObjectStub, (_object, state) => {
    const env = { ...bindings, REGIONS: REGIONS.join(",") };
    return use(new Outbox(state.storage, env, DEFAULT_SETTINGS, Date.now), state.storage);
  });
}

async function someIdentity() {
  const account = await newAccount();
  const { id, object } = await newIdentity(account.id);
  return { sub: identitySubject(id), object };
}

describe("a floor in a deployment of several regions", () => {
  it("reaches every one, and then nothing is left to deliver", async () => {
    const { sub, object } = await someIdentity();
    const left = await withOutbox(object, async (outbox) => {
      outbox.append({ sub, epoch: 2, at: Date.now() });
      await outbox.deliver();
      return outbox.retryInMs();
    });
    expect(left).toBeNull();
    for (const name of REGIONS) expect(await floorsOf(name)).toEqual([{ sub, epoch: 2 }]);
  });

  it("reaches the others while one cannot be reached, stays for that one, and reaches it in its newest form", async () => {
    const { sub, object } = await someIdentity();
    const us = await regionOf("us");
    await us.deliverFloors([]);
    await runSql(us, "ALTER TABLE floors RENAME TO floors_broken");
    const left = await withOutbox(object, async (outbox, storage) => {
      for (const epoch of [2, 3]) {
        outbox.append({ sub, epoch, at: Date.now() });
        await outbox.deliver();
      }
      return [outbox.retryInMs() !== null, storage.sql.exec("SELECT region, epoch FROM outbox").toArray()];
    });
    expect(left).toEqual([true, [{ region: "us", epoch: 3 }]]);
    for (const name of ["eu", "ap"]) expect(await floorsOf(name)).toEqual([{ sub, epoch: 3 }]);
    await runSql(us, "ALTER TABLE floors_broken RENAME TO floors");
    await withOutbox(object, (outbox) => outbox.deliver());
    expect(await floorsOf("us")).toEqual([{ sub, epoch: 3 }]);
    expect(await withOutbox(object, async (outbox) => outbox.retryInMs())).toBeNull();
  });

  it("that a region has already changes nothing there: delivery is at least once", async () => {
    const { sub, object } = await someIdentity();
    const eu = await regionOf("eu");
    await eu.deliverFloors([{ sub, epoch: 5, at: Date.now() }]);
    await withOutbox(object, async (outbox) => {
      outbox.append({ sub, epoch: 4, at: Date.now() });
      await outbox.deliver();
    });
    expect(await floorsOf("eu")).toEqual([{ sub, epoch: 5 }]);
  });

  it("is forgotten for a region that has left the deployment", async () => {
    const { sub, object } = await someIdentity();
    await withOutbox(object, async (outbox, storage) => {
      outbox.append({ sub, epoch: 2, at: Date.now() });
      storage.sql.exec("UPDATE outbox SET region = 'gone' WHERE region = 'us'");
      await outbox.deliver();
      expect(outbox.retryInMs()).toBeNull();
    });
    expect(await floorsOf("eu")).toEqual([{ sub, epoch: 2 }]);
  });
});

describe("an object with more than one subject", () => {
  it("keeps a floor of each on its way, and one does not take the other's place", async () => {
    const account = await newAccount();
    await withOutbox(account.object, async (outbox, storage) => {
      for (const sub of [`account:${account.id}`, `tenant:${account.id}`] as const)
        outbox.append({ sub, epoch: 2, at: Date.now() });
      expect(storage.sql.exec("SELECT COUNT(*) AS n FROM outbox").one()).toEqual({ n: 2 * REGIONS.length });
      await outbox.deliver();
      expect(outbox.retryInMs()).toBeNull();
    });
    expect((await floorsOf("us")).length).toBe(2);
  });

  it("takes over what an older build still had to deliver", async () => {
    await runInDurableObject(bindings.ACCOUNT.getByName(freshName()), (_object, { storage }) => {
      storage.sql.exec(OUTBOX_TABLE);
      storage.sql.exec("INSERT INTO outbox VALUES ('eu', 'account:aaaaaaaaaaaaaaaa', 3, 1, 2)");
      storage.sql.exec(OUTBOX_BY_SUBJECT);
      expect(storage.sql.exec("SELECT * FROM outbox").toArray()).toEqual([
        { region: "eu", sub: "account:aaaaaaaaaaaaaaaa", epoch: 3, at: 1, attempts: 2 },
      ]);
    });
  });
});
