declare module "vitest" {
  /** What global set-ups hand to tests. */
  interface ProvidedContext {
    /** Base URL of the scripted host. */
    hostUrl: string;
  }
}

export {};
