import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Finished, run } from "../system/command.ts";
import type { Package } from "../system/sdk.ts";

const nodeModules = fileURLToPath(new URL("../../node_modules", import.meta.url));

/** The name under which a document imports its package. */
export type ImportedName = "freestyle" | "freestyle-sandboxes";

/** A document's code, verbatim, by section: each section's first code block. */
export function documentSections(name: "client-sessions" | "ssh-access"): ReadonlyMap<string, string> {
  const text = readFileSync(new URL(`documents/${name}.md`, import.meta.url), "utf8");
  const blocks = text.matchAll(/^## (.+)\n\n```\w+\n([\s\S]*?)^```$/gm);
  return new Map([...blocks].map(([, title = "", code = ""]) => [title, code]));
}

export interface Program {
  /** The document's code as it stands. */
  readonly code: string;
  readonly importedName: ImportedName;
  /** Names that the document takes from earlier in its text, passed as strings. */
  readonly parameters?: readonly string[];
  /** What the test does with the document's variables afterwards; an object to return. */
  readonly tail?: string;
}

/**
 * A folder in which a document's code finds its package under the name that the document imports. The code becomes the
 * body of a function, since a document may end with `return`; its imports stay where they are, and a block that has none
 * gets that of the block before it, as its reader would.
 */
export class DocumentFolder {
  readonly #folder = mkdtempSync(join(tmpdir(), "postern-document-"));
  #count = 0;

  constructor(importedName: ImportedName, from: Package) {
    mkdirSync(join(this.#folder, "node_modules"));
    symlinkSync(join(nodeModules, from.folder), join(this.#folder, "node_modules", importedName));
    symlinkSync(join(nodeModules, "@types"), join(this.#folder, "node_modules", "@types"));
    writeFileSync(join(this.#folder, "package.json"), '{"type":"module"}');
  }

  /** Runs a program with the base URL and the API key in its environment, which is where a document's reader puts them. */
  async run(program: Program, environment: NodeJS.ProcessEnv, values: readonly string[] = []): Promise<ProgramResult> {
    const file = this.#write(program);
    const { PATH, HOME } = process.env;
    const finished = await run(process.execPath, [file, ...values], { env: { PATH, HOME, ...environment }, cwd: this.#folder });
    if (finished.code !== 0) throw new Error(`the document's code failed: ${finished.stderr}`);
    const lines = finished.stdout.toString("utf8").trimEnd().split("\n");
    return { printed: lines.slice(0, -1), result: JSON.parse(lines.at(-1) ?? "") };
  }

  /** Checks a program's types against the package's own declarations. */
  typeCheck(program: Program): Promise<Finished> {
    const flags = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2024", "--module", "nodenext", "--types", "node"];
    const tsc = join(nodeModules, "typescript", "bin", "tsc");
    return run(process.execPath, [tsc, ...flags, this.#write(program)], { cwd: this.#folder });
  }

  close(): void {
    rmSync(this.#folder, { recursive: true });
  }

  #write({ code, importedName, parameters = [], tail }: Program): string {
    const lines = code.split("\n");
    const ownImports = lines.filter((line) => line.startsWith("import "));
    const imports = ownImports.length > 0 ? ownImports : [`import { freestyle } from "${importedName}";`];
    const source = [
      ...imports,
      `async function document(${parameters.map((name) => `${name}: string`).join(", ")}) {`,
      ...lines.filter((line) => !line.startsWith("import ")),
      ...(tail === undefined ? [] : [tail]),
      "}",
      `const values = process.argv.slice(2) as [${parameters.map(() => "string").join(", ")}];`,
      "console.log(JSON.stringify((await document(...values)) ?? null));",
      "export {};",
    ];
    this.#count += 1;
    const file = join(this.#folder, `program-${this.#count}.ts`);
    writeFileSync(file, source.join("\n"));
    return file;
  }
}

export interface ProgramResult {
  /** What the document's code printed, a line each. */
  readonly printed: readonly string[];
  /** What it returned, or what the tail did. */
  readonly result: unknown;
}
