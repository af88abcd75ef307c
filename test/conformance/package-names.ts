/** The packages as test titles name them. */
export const PACKAGE_NAMES = ["freestyle-sandboxes 0.1.46", "freestyle 0.1.63", "freestyle 0.2.17"] as const;
export type PackageName = (typeof PACKAGE_NAMES)[number];

/** A reference of the table, taken apart. */
export interface TestReference {
  /** Name of the file, without folder. */
  readonly file: string;
  /** The start of the title as the source has it. */
  readonly title: string;
}

/** Takes `file: title` apart. */
export function parseReference(text: string): TestReference {
  const end = text.indexOf(": ");
  return { file: `${text.slice(0, end)}.test.ts`, title: text.slice(end + 2) };
}

/** Whether a test that ran is the one that is meant: a title's placeholders stand for anything. */
export function isMeant(reference: TestReference, ran: { readonly file: string; readonly name: string }): boolean {
  if (!ran.file.endsWith(`/${reference.file}`)) return false;
  const pattern = reference.title.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll(/%[a-z]/g, ".+");
  return new RegExp(`^${pattern}`).test(ran.name);
}

/** Whether a test is about a package: one that names packages is about those only. */
export function isAbout(packageName: PackageName, fullName: string): boolean {
  const named = PACKAGE_NAMES.filter((name) => fullName.includes(name));
  return named.length === 0 || named.includes(packageName);
}
