const BUNDLE = 'modules = [(name = "index.js", esModule = embed "index.js")],';

/** Puts a module in front of the bundle that moves the clock of Worker and objects by so many milliseconds. */
export function movedClock(ms: number): (config: string) => string {
  const code = [
    'export * from "./index.js";',
    'export { default } from "./index.js";',
    "const now = Date.now.bind(Date);",
    `Date.now = () => now() + ${ms};`,
  ].join(" ");
  return (config) => {
    if (!config.includes(BUNDLE)) throw new Error("the bundle is not where it was in workerd's configuration");
    return config.replace(
      BUNDLE,
      `modules = [(name = "moved.js", esModule = ${JSON.stringify(code)}), ${BUNDLE.slice("modules = [".length)}`,
    );
  };
}
