import { runInDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { Schema } from "../../durable-objects/schema.ts";
import { DEFAULT_SETTINGS, readRegions, readSettings } from "../../durable-objects/settings.ts";
import { bindings, freshName } from "./objects.ts";

const FIRST = "CREATE TABLE things (id TEXT); INSERT INTO things VALUES ('kept');";
const SECOND = "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 1;";

async function inStorage(test: (storage: DurableObjectStorage) => void): Promise<void> {
  await runInDurableObject(bindings.ACCOUNT.getByName(freshName()), (_object, state) => test(state.storage));
}

describe("a schema", () => {
  it("writes nothing until it is prepared", async () => {
    await inStorage((storage) => {
      const schema = new Schema(storage, [FIRST]);
      expect(schema.exists).toBe(false);
      expect(storage.sql.exec("SELECT * FROM sqlite_master WHERE name = 'things'").toArray()).toEqual([]);
    });
  });

  it("takes each step once, and an older object takes the new ones when it wakes", async () => {
    await inStorage((storage) => {
      new Schema(storage, [FIRST]).prepare();
      new Schema(storage, [FIRST]).prepare();
      expect(new Schema(storage, [FIRST, SECOND]).exists).toBe(true);
      expect(storage.sql.exec("SELECT * FROM things").toArray()).toEqual([{ id: "kept", size: 1 }]);
    });
  });

  it("takes no part of a step that fails", async () => {
    await inStorage((storage) => {
      new Schema(storage, [FIRST]).prepare();
      const bad = `${SECOND} CREATE TABLE things (id TEXT);`;
      expect(() => new Schema(storage, [FIRST, bad])).toThrow();
      expect(storage.sql.exec("SELECT * FROM things").toArray()).toEqual([{ id: "kept" }]);
      expect(new Schema(storage, [FIRST]).exists).toBe(true);
    });
  });
});

describe("settings", () => {
  it("have their defaults when a deployment sets none or leaves one empty", () => {
    expect(readSettings({})).toEqual(DEFAULT_SETTINGS);
    expect(readSettings({ MAX_PAGE_SIZE: "" }).MAX_PAGE_SIZE).toBe(DEFAULT_SETTINGS.MAX_PAGE_SIZE);
    expect(readSettings({ MAX_PAGE_SIZE: "7" }).MAX_PAGE_SIZE).toBe(7);
  });

  it("that are no whole number of at least 1 stop the object, by name", () => {
    for (const value of ["0", "-1", "1.5", "ten", "1e400"]) {
      expect(() => readSettings({ FLOOR_KEEP_MS: value })).toThrow("FLOOR_KEEP_MS");
    }
  });

  it("name regions apart from spaces and empty parts", () => {
    expect(readRegions(" eu , us,,")).toEqual(["eu", "us"]);
    expect(readRegions("")).toEqual([]);
  });
});
