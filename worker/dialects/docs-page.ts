import type { Endpoint } from "./endpoint.ts";

const WHO: Readonly<Record<Endpoint["admission"]["access"], string>> = {
  account: "API key",
  principal: "API key or access token",
  vm: "API key or access token",
  "vm-socket": "API key, access token or ticket",
};

const STYLE = `:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #8884; padding: .3rem .6rem; text-align: left; vertical-align: top }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }`;

/** What a browser may do with the page: show it. */
export const DOCS_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

/** The routes as a page for people, complete in itself: no script, nothing loaded. */
export function docsPage(endpoints: readonly Endpoint[]): string {
  const groups = Map.groupBy(endpoints, ({ path }) => `/${path.split("/")[1]}`);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Postern API</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Postern API</h1>
<p>Send an API key or an access token as <code>Authorization: Bearer</code>, or an access token as
<code>X-Freestyle-Identity-Access-Token</code>. The schemas are in <a href="openapi.json">openapi.json</a>.</p>
${[...groups].map(([prefix, routes]) => section(prefix, routes)).join("\n")}
</body>
</html>
`;
}

function section(prefix: string, endpoints: readonly Endpoint[]): string {
  return `<h2><code>${escapeHtml(prefix)}</code></h2>
<table>
<thead><tr><th>Route</th><th>What it does</th><th>For</th></tr></thead>
<tbody>
${endpoints.map(row).join("\n")}
</tbody>
</table>`;
}

function row({ method, path, summary, admission }: Endpoint): string {
  const route = `${method.toUpperCase()} ${path}`;
  return `<tr><td><code>${escapeHtml(route)}</code></td><td>${escapeHtml(summary)}</td><td>${escapeHtml(WHO[admission.access])}</td></tr>`;
}

function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
