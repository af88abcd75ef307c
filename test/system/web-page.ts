import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { type BrowserContext, chromium, type Page } from "playwright-core";

const CHROMIUM = "/usr/bin/chromium";

/** No sandbox, since tests run as root; nothing that would call a vendor's servers. */
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const shims = fileURLToPath(new URL("browser-shims.ts", import.meta.url));

/**
 * The packages as a web application ships them. 0.1.63 imports `path` and uses `Buffer`, for which every bundler has shims, and
 * reads local folders by way of `glob`, in Node only; 0.2.17 needs no shims, and its `ws` is for Node only.
 */
const BUNDLES: Readonly<Record<string, Parameters<typeof build>[0]>> = {
  sdk63: {
    stdin: { contents: 'export * from "freestyle-0.1";', resolveDir: import.meta.dirname },
    alias: { path: shims },
    inject: [shims],
    external: ["glob", "fs/promises"],
  },
  sdk217: { stdin: { contents: 'export * from "freestyle-0.2";', resolveDir: import.meta.dirname }, external: ["ws"] },
};

/** A headless Chromium that shows pages of a site with an origin of its own. */
export class WebSite {
  readonly #context: BrowserContext;
  readonly #profile: string;
  readonly #server: ReturnType<typeof createServer>;
  readonly url: string;

  private constructor(context: BrowserContext, profile: string, server: ReturnType<typeof createServer>, url: string) {
    this.#context = context;
    this.#profile = profile;
    this.#server = server;
    this.url = url;
  }

  static async open(): Promise<WebSite> {
    const scripts = await Promise.all(Object.entries(BUNDLES).map(([name, options]) => bundle(name, options)));
    const html = `<!doctype html><meta charset="utf-8"><title>A web application</title>${scripts.join("")}`;
    const server = createServer((_request, response) => {
      response.setHeader("content-type", "text/html; charset=utf-8").end(html);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (typeof address !== "object" || address === null) throw new Error("the site has no port");
    const profile = mkdtempSync(join(tmpdir(), "postern-chromium-"));
    const context = await chromium.launchPersistentContext(profile, { executablePath: CHROMIUM, headless: true, args: FLAGS });
    return new WebSite(context, profile, server, `http://127.0.0.1:${address.port}/`);
  }

  /** A fresh page with both packages as `sdk63` and `sdk217`. */
  async page(): Promise<Page> {
    const page = await this.#context.newPage();
    await page.goto(this.url);
    return page;
  }

  async close(): Promise<void> {
    await this.#context.close();
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.#profile, { recursive: true, force: true });
  }
}

/** A package as one script element that sets the global `name`. */
async function bundle(name: string, options: Parameters<typeof build>[0]): Promise<string> {
  const { outputFiles = [] } = await build({
    ...options,
    bundle: true,
    platform: "browser",
    format: "iife",
    globalName: name,
    write: false,
    logLevel: "error",
  });
  // The one text that would end the element early.
  const text = (outputFiles[0]?.text ?? "").replaceAll("</script", "<\\/script");
  return `<script>${text}</script>`;
}
