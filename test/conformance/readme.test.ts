import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { newAccount, system } from "../system/fixture.ts";
import { PACKAGES } from "../system/sdk.ts";
import { DocumentFolder } from "./document-programs.ts";

const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
const code = /^```ts\n([\s\S]*?)^```$/m.exec(readme)?.[1] ?? expect.fail("the README has no program");

test.each(PACKAGES)("the README's first program runs as it stands with $name, and prints what it says", async (from) => {
  const account = await newAccount();
  const folder = new DocumentFolder("freestyle-sandboxes", from);
  try {
    const program = {
      code: code.replaceAll('"http://127.0.0.1:8787"', JSON.stringify(system.apiUrl)),
      importedName: "freestyle-sandboxes" as const,
      tail: "await freestyle.vms.delete({ vmId });",
    };
    const { printed } = await folder.run(program, { API_KEY: account.apiKey });
    expect(printed).toEqual([
      "alice",
      "",
      expect.stringMatching(/^ssh -p 2222 [a-z0-9]{20}\+alice:pst_[a-z2-7]{46}@127\.0\.0\.1$/),
    ]);
  } finally {
    folder.close();
  }
});
