import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { z } from "zod";
import { DEFAULT_SETTINGS } from "../durable-objects/settings.ts";
import { forwarderSettings } from "../forwarder/settings.ts";
import { hostEnvironment } from "../host/settings.ts";
import { doctorSettings } from "./doctor/settings.ts";
import { startSettings } from "./start/settings.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Where the page is kept. */
export const SETTINGS_DOC = here("../docs/settings.md");

const HEAD = `# Settings

Written by \`npm run docs\` from the sources, which say the same. Every one is an environment variable; those of the edge are
wrangler vars. Times in milliseconds, sizes in bytes, unless the name says otherwise. The Worker's own are in
[edge settings](edge-settings.md). \`npm start\` hands its environment on to the host and the forwarder,
and the settings of the edge in it to the edge.

## The edge's bindings

| name | default | what it is |
| --- | --- | --- |
| \`TOKEN_MAC_KEYS\` | secret, required | base64url keys for the MAC part of credentials, newest first, comma-separated |
| \`OPERATOR_KEY_SHA256\` | secret, required | SHA-256 (hex) of the operator's key, which makes accounts and service keys |
| \`ISSUER\` | \`postern\` | \`iss\` of tickets; another for each deployment |
| \`REGIONS\` | \`local\` | names of the regions, comma-separated; the first takes new VMs |
| \`VM_DOMAIN\` | \`vm.localhost\` | VMs are reached over HTTP at \`<vm-id>[-<port>].<this domain>\` (vm-names.md); empty: not at all |
| \`SSH_HOST\`, \`SSH_PORT\` | \`localhost\`, \`2222\` | where people reach the SSH ingress; shown in commands that the API prints |
`;

interface Section {
  readonly title: string;
  readonly source: string;
  readonly names: readonly string[];
  readonly defaultOf: (name: string) => string;
}

const SECTIONS: readonly Section[] = [
  zodSection("`npm start`", "./start/settings.ts", startSettings),
  zodSection("Host agents (`postern serve-host`)", "../host/settings.ts", hostEnvironment),
  zodSection("`postern doctor`", "./doctor/settings.ts", doctorSettings),
  zodSection("Forwarders (`postern serve-forwarder`)", "../forwarder/settings.ts", forwarderSettings),
  {
    title: "Durable Objects",
    source: "../durable-objects/settings.ts",
    names: Object.keys(DEFAULT_SETTINGS),
    defaultOf: (name) => String(DEFAULT_SETTINGS[name as keyof typeof DEFAULT_SETTINGS]),
  },
];

/** The whole page, made from the settings' names, defaults and doc comments. */
export function settingsDoc(): string {
  return [HEAD, ...SECTIONS.map(renderSection)].join("\n");
}

function zodSection(title: string, source: string, schema: z.ZodObject): Section {
  const defaultOf = (name: string) => {
    const read = (schema.shape[name] as z.ZodType).safeParse(undefined);
    if (!read.success) return "required";
    return read.data === undefined ? "none" : `\`${describe(read.data)}\``;
  };
  return { title, source, names: Object.keys(schema.shape), defaultOf };
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return value.join(",");
  if (typeof value === "object" && value !== null && "address" in value && "port" in value) return `${value.address}:${value.port}`;
  return String(value);
}

function renderSection({ title, source, names, defaultOf }: Section): string {
  const text = readFileSync(here(source), "utf8");
  const rows = names.map((name) => `| \`${name}\` | ${defaultOf(name)} | ${commentOf(text, name)} |`);
  return `## ${title}\n\n| name | default | what it is |\n| --- | --- | --- |\n${rows.join("\n")}\n`;
}

/** The doc comment right above a member, on one line; that of the member before when two share one. */
function commentOf(source: string, name: string): string {
  const above = source.slice(0, source.search(new RegExp(`^ {2}${name}:`, "m")));
  const comment = above.slice(above.lastIndexOf("/**") + 3, above.lastIndexOf("*/"));
  return comment
    .replaceAll(/\s*\n\s*\*?\s*/g, " ")
    .trim()
    .replaceAll("|", "\\|");
}

if (import.meta.main) writeFileSync(SETTINGS_DOC, settingsDoc());
