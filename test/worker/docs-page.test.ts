import { expect, it } from "vitest";
import { docsPage } from "../../worker/dialects/docs-page.ts";
import { everyEndpoint } from "./support/endpoints.ts";
import { call } from "./support/world.ts";

it("GET /docs lists every route for people, and loads nothing", async () => {
  const response = await call("/docs");
  const page = await response.text();
  expect(response.headers.get("content-type")).toContain("text/html");
  expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
  for (const { name } of everyEndpoint) expect(page).toContain(`<code>${name}</code>`);
  expect(page).not.toMatch(/<script|src=|url\(|@import|https?:/);
});

it("a route's words are text on the page, never markup", () => {
  const [first] = everyEndpoint;
  if (first === undefined) throw new Error("there are no routes");
  const page = docsPage([{ ...first.endpoint, summary: `<img src="x" onerror='y'> & more` }]);
  expect(page).not.toContain("<img");
  expect(page).toContain("&#60;img");
});
