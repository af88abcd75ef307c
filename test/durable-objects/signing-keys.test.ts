import { abortAllDurableObjects, runDurableObjectAlarm } from "cloudflare:test";
import { calculateJwkThumbprint, type JWK } from "jose";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { Region } from "../../durable-objects/region.ts";
import { DEFAULT_SETTINGS } from "../../durable-objects/settings.ts";
import { bindings, freshName, localRegion, runSql, setClock } from "./objects.ts";

const { KEY_PUBLISH_LEAD_MS, KEY_ROTATION_MS, KEY_HOLD_MS, KEY_RETIRE_MARGIN_MS, KEY_VOID_KEEP_MS } = DEFAULT_SETTINGS;
const T0 = 1_900_000_000_000;

let name: string;
let keys: DurableObjectStub<import("../../durable-objects/signing-keys.ts").SigningKeys>;

beforeEach(async () => {
  name = freshName();
  keys = bindings.SIGNING_KEYS.getByName(name);
  await setClock(keys, T0);
});

const published = async () => ((await keys.jwks()).keys as JWK[]).map((key) => key.kid);

describe("ticket keys", () => {
  it("are one for any number of first callers, and the first signs at once", async () => {
    const [one, two, set] = await Promise.all([keys.signer(), keys.signer(), keys.jwks()]);
    expect(one.kid).toBe(two.kid);
    expect((set.keys as JWK[]).map((key) => key.kid)).toEqual([one.kid]);
  });

  it("publish public members only, named by their thumbprint", async () => {
    const [key] = (await keys.jwks()).keys as JWK[];
    expect(Object.keys(key ?? {}).sort()).toEqual(["alg", "crv", "kid", "kty", "use", "x"]);
    expect(key).toMatchObject({ alg: "EdDSA", crv: "Ed25519", kty: "OKP", use: "sig" });
    expect(key?.kid).toBe(await calculateJwkThumbprint({ kty: "OKP", crv: "Ed25519", x: key?.x ?? "" }));
    expect(JSON.stringify(await keys.jwks())).not.toContain((await keys.signer()).privateJwk.d);
  });

  it("survive a crash", async () => {
    const before = await keys.signer();
    await abortAllDurableObjects();
    keys = bindings.SIGNING_KEYS.getByName(name);
    expect((await keys.signer()).kid).toBe(before.kid);
  });

  it("go on signing with the first when the clock goes back before it", async () => {
    const before = await keys.signer();
    await setClock(keys, T0 - 1_000);
    expect((await keys.signer()).kid).toBe(before.kid);
  });

  it("do not sign before they have been published for the lead", async () => {
    const first = await keys.signer();
    const { kid, signsFrom } = await keys.rotate();
    expect(signsFrom).toBe(T0 + KEY_PUBLISH_LEAD_MS);
    await setClock(keys, signsFrom - 1);
    expect((await keys.signer()).kid).toBe(first.kid);
    await setClock(keys, signsFrom);
    expect((await keys.signer()).kid).toBe(kid);
  });

  it("are never held past the moment a successor signs", async () => {
    expect((await keys.signer()).keepUntil).toBe(T0 + KEY_HOLD_MS);
    const { signsFrom } = await keys.rotate();
    await setClock(keys, signsFrom - 1_000);
    expect((await keys.signer()).keepUntil).toBe(signsFrom);
  });

  it("stay published until the last ticket of the old key is dead, and not longer", async () => {
    const first = await keys.signer();
    const { kid, signsFrom } = await keys.rotate();
    const retired = signsFrom + 65_000 + KEY_RETIRE_MARGIN_MS;
    await setClock(keys, retired - 1);
    expect(await published()).toEqual([first.kid, kid]);
    await setClock(keys, retired);
    expect(await published()).toEqual([kid]);
  });

  it("are not piled up by asking to rotate again while one waits", async () => {
    await keys.signer();
    const [one, two] = await Promise.all([keys.rotate(), keys.rotate()]);
    expect(one).toEqual(two);
    expect(await keys.rotate()).toEqual(one);
    expect(await published()).toHaveLength(2);
  });

  it("rotate by alarm when the interval is over, not before, and a repeated alarm changes nothing", async () => {
    const first = await keys.signer();
    await setClock(keys, T0 + KEY_ROTATION_MS - 1);
    await runDurableObjectAlarm(keys);
    expect(await published()).toEqual([first.kid]);
    await setClock(keys, T0 + KEY_ROTATION_MS);
    await runDurableObjectAlarm(keys);
    await runDurableObjectAlarm(keys);
    expect(await published()).toHaveLength(2);
    await setClock(keys, T0 + KEY_ROTATION_MS + KEY_PUBLISH_LEAD_MS + 65_000 + KEY_RETIRE_MARGIN_MS);
    await runDurableObjectAlarm(keys);
    expect(await published()).toHaveLength(1);
    expect(await published()).not.toContain(first.kid);
  });

  it("keep one that signs however late the alarm comes", async () => {
    await keys.signer();
    await setClock(keys, T0 + 10 * KEY_ROTATION_MS);
    const late = await keys.signer();
    await runDurableObjectAlarm(keys);
    expect((await keys.signer()).kid).toBe(late.kid);
    expect(await published()).toContain(late.kid);
  });
});

describe("when every key is withdrawn", () => {
  const KIDS = ["kid"];

  it("a new one signs and is published alone at once, whatever was waiting", async () => {
    const first = await keys.signer();
    const waiting = await keys.rotate();
    const { kid, voided, untold } = await keys.voidAll();
    expect([...voided].sort()).toEqual([first.kid, waiting.kid].sort());
    expect(untold).toEqual([]);
    expect((await keys.signer()).kid).toBe(kid);
    expect(await published()).toEqual([kid]);
  });

  it("those who ask for it at once get one withdrawal", async () => {
    await keys.signer();
    const [one, two] = await Promise.all([keys.voidAll(), keys.voidAll()]);
    expect(one).toEqual(two);
  });

  it("a region that could not be told is told by alarm, also after a crash", async () => {
    const first = await keys.signer();
    const tell = vi.spyOn(Region.prototype, "voidKeys").mockRejectedValue(new Error("out of reach"));
    const { untold } = await keys.voidAll();
    expect(untold).toEqual(["local"]);
    await abortAllDurableObjects();
    keys = bindings.SIGNING_KEYS.getByName(name);
    await runDurableObjectAlarm(keys);
    tell.mockRestore();
    await runDurableObjectAlarm(keys);
    expect(await runSql(await localRegion(), `SELECT kid FROM voided_keys WHERE kid = '${first.kid}'`)).toHaveLength(1);
    expect(await runSql(keys, "SELECT * FROM untold")).toEqual([]);
  });

  it("a region keeps them for those who join later, and in the end forgets them", async () => {
    const region = await localRegion();
    await setClock(region, T0);
    await region.voidKeys(KIDS);
    await region.voidKeys(KIDS);
    await setClock(region, T0 + KEY_VOID_KEEP_MS + 1);
    await region.voidKeys([]);
    expect(await runSql(region, "SELECT * FROM voided_keys WHERE kid = 'kid'")).toEqual([]);
  });
});
