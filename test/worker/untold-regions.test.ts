import { runDurableObjectAlarm } from "cloudflare:test";
import { beforeAll, expect, it } from "vitest";
import { bindings, localRegion, runSql } from "../durable-objects/objects.ts";
import {
  type Account,
  call,
  grantPath,
  type Identity,
  newAccount,
  newIdentity,
  newVm,
  OPERATOR_KEY,
  openWorld,
} from "./support/world.ts";

const UNTOLD = "postern-untold-regions";

let account: Account;
let vmId: string;
let identity: Identity;
beforeAll(async () => {
  await openWorld();
  account = await newAccount();
  vmId = await newVm(account);
  identity = await newIdentity(account, [vmId], ["alice", "bob"]);
});

const path = () => `/identity/v1/identities/${identity.id}`;
const operator = (accountPath: string) =>
  call(`/operator/v1/accounts/${account.accountId}${accountPath}`, { method: "POST", key: OPERATOR_KEY });
const owner = (method: string, at: string, body?: object) => call(at, { method, key: account.key, body });

// In this order: the last ones leave nothing to take away.
const NARROWINGS: [what: string, narrow: () => Promise<Response>][] = [
  ["users of a grant", () => owner("PUT", grantPath(identity.id, vmId), { allowedUsers: ["bob"] })],
  ["a grant", () => owner("DELETE", grantPath(identity.id, vmId))],
  ["a token", () => owner("DELETE", `${path()}/tokens/${identity.tokenId}`)],
  ["an identity", () => owner("DELETE", path())],
  ["a VM", () => owner("DELETE", `/v1/vms/${vmId}`)],
  ["an account", () => operator("/suspend")],
];

it("what is taken away is acknowledged while a region cannot be told, and the answer names that region", async () => {
  const region = await localRegion();
  await runSql(region, "ALTER TABLE floors RENAME TO floors_broken");
  try {
    for (const [what, narrow] of NARROWINGS) {
      const answer = await narrow();
      expect([what, answer.status < 300, answer.headers.get(UNTOLD)]).toEqual([what, true, "local"]);
    }
  } finally {
    await runSql(region, "ALTER TABLE floors_broken RENAME TO floors");
  }
  // Once the region has been told nobody is warned any more.
  expect(await runDurableObjectAlarm(bindings.ACCOUNT.getByName(account.accountId))).toBe(true);
  const again = await operator("/suspend");
  expect([again.status, again.headers.get(UNTOLD)]).toEqual([200, null]);
});
