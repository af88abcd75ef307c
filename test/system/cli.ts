import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { run } from "./command.ts";
import { system } from "./fixture.ts";

/** One package's command-line tool: the script, and the variable that names the API. */
export interface Tool {
  readonly name: string;
  readonly script: string;
  readonly urlVariable: "FREESTYLE_API_URL" | "FREESTYLE_PROXY";
}

const script = (path: string) => fileURLToPath(new URL(`../../node_modules/${path}`, import.meta.url));

export const TOOL_46: Tool = {
  name: "freestyle-sandboxes 0.1.46",
  script: script("freestyle-sandboxes/cli.mjs"),
  urlVariable: "FREESTYLE_API_URL",
};
export const TOOL_63: Tool = {
  name: "freestyle 0.1.63",
  script: script("freestyle-0.1/cli.mjs"),
  urlVariable: "FREESTYLE_API_URL",
};
export const TOOL_217: Tool = {
  name: "freestyle 0.2.17",
  script: script("freestyle-0.2/dist/cli/index.js"),
  urlVariable: "FREESTYLE_PROXY",
};

export interface ToolAnswer {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * A person with a home of their own, whose OpenSSH configuration is what the started system's screen tells to write.
 * OpenSSH takes a person's home from the password database and not from HOME, so the programs on this person's PATH name
 * that configuration themselves.
 */
export class Person {
  readonly home = mkdtempSync(join(tmpdir(), "postern-person-"));
  readonly #apiKey: string | null;

  constructor(apiKey: string | null, configured = true) {
    this.#apiKey = apiKey;
    onTestFinished(() => rmSync(this.home, { recursive: true }));
    const config = join(this.home, ".ssh", "config");
    mkdirSync(join(this.home, ".ssh"), { mode: 0o700 });
    const include = configured ? `Include "${join(system.home, "ssh_config")}"\n` : "ProxyCommand false\n";
    writeFileSync(config, `${include}Host *\n  IdentityFile none\n  IdentityAgent none\n  BatchMode yes\n`);
    mkdirSync(join(this.home, "bin"));
    for (const program of ["ssh", "scp"]) {
      const file = join(this.home, "bin", program);
      writeFileSync(file, `#!/bin/sh\nexec /usr/bin/${program} -F '${config}' "$@"\n`);
      chmodSync(file, 0o755);
    }
  }

  /** Runs a tool to its end; `input` is what the person types, without a terminal. */
  async uses(tool: Tool, args: readonly string[], input = ""): Promise<ToolAnswer> {
    const env = {
      PATH: `${join(this.home, "bin")}${delimiter}${process.env.PATH}`,
      HOME: this.home,
      CI: "1",
      [tool.urlVariable]: system.apiUrl,
      ...(this.#apiKey === null ? {} : { FREESTYLE_API_KEY: this.#apiKey }),
    };
    const { code, stdout, stderr } = await run(process.execPath, [tool.script, ...args], { cwd: this.home, env, input });
    return { code, stdout: stdout.toString("utf8"), stderr };
  }
}
