import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type HttpLink, readHttpLink, signHttpLink } from "../../protocol/http-link.ts";
import { importMacKeys } from "../../protocol/tokens.ts";
import { parseVmName, vmHostname } from "../../protocol/vm-names.ts";

const VM = "a".repeat(20);
const LINK: HttpLink = { vm: VM, port: null, sub: `identity:${"b".repeat(16)}`, cred: "c", exp: 1_000 };
const keys = await importMacKeys("bmV3LWtleS1udW1iZXItdHdvLg,b2xkLWtleS1udW1iZXItb25lLg");
const old = await importMacKeys("b2xkLWtleS1udW1iZXItb25lLg");
const other = await importMacKeys("b3RoZXIta2V5LW51bWJlci10aHJlZQ");

describe("a signed link", () => {
  it("is read back until the second it expires, under an older key too", async () => {
    expect(await readHttpLink(await signHttpLink(LINK, keys), keys, 999_999)).toEqual(LINK);
    expect(await readHttpLink(await signHttpLink(LINK, old), keys, 0)).toEqual(LINK);
    expect(await readHttpLink(await signHttpLink(LINK, keys), keys, 1_000_000)).toBeNull();
  });

  it("is nothing under another key, with another MAC, or with other contents", async () => {
    expect(await readHttpLink(await signHttpLink(LINK, other), keys, 0)).toBeNull();
    const [body = "", mac = ""] = (await signHttpLink(LINK, keys)).split(".");
    const [otherBody = ""] = (await signHttpLink({ ...LINK, port: 80 }, keys)).split(".");
    for (const text of [
      "",
      ".",
      body,
      `${body}.`,
      `.${mac}`,
      `${otherBody}.${mac}`,
      `${body}.${mac}.x`,
      `${body}.${mac.slice(1)}`,
    ]) {
      expect(await readHttpLink(text, keys, 0), text).toBeNull();
    }
  });

  it("whatever a stranger sends is nothing", async () => {
    await fc.assert(
      fc.asyncProperty(fc.string(), async (text) => {
        expect(await readHttpLink(text, keys, 0)).toBeNull();
      }),
    );
  });
});

describe("a VM's name", () => {
  it("is read as it is written", () => {
    for (const port of [null, 1, 65_535]) {
      expect(parseVmName(vmHostname(VM, port, "vm.test"), "vm.test")).toEqual({ kind: "vm", vmId: VM, port });
    }
  });

  it("may end in the dot that says it is whole", () => {
    expect(parseVmName(`${VM}-80.vm.test.`, "vm.test")).toEqual({ kind: "vm", vmId: VM, port: 80 });
    expect(parseVmName(`${VM}.vm.test..`, "vm.test")).toBeNull();
  });

  it("is nobody's when the label has another form, and no name at all outside the domain", () => {
    for (const label of ["x", `${VM}a`, `${VM}-`, `${VM}-0`, `${VM}-01`, `${VM}-65536`, `${VM}-1-1`, `a.${VM}`, VM.toUpperCase()]) {
      expect(parseVmName(`${label}.vm.test`, "vm.test"), label).toEqual({ kind: "nobody" });
    }
    for (const name of ["vm.test", `${VM}.vm.test.evil`, `${VM}xvm.test`, "api.test", ""]) {
      expect(parseVmName(name, "vm.test"), name).toBeNull();
    }
    expect(parseVmName(`${VM}.vm.test`, "")).toBeNull();
  });
});
