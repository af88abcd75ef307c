import { createConfig, lintFromString } from "@redocly/openapi-core";
import { expect, it } from "vitest";
import { z } from "zod";

/**
 * Imported by a name that only the runtime reads: these modules are compiled for the edge, whose types and Node's do not go
 * together.
 */
const EDGE_MODULE = new URL("../../worker/api-description.ts", import.meta.url).href;

const operation = z.looseObject({
  operationId: z.string(),
  summary: z.string(),
  requestBody: z.unknown().optional(),
  responses: z.record(z.string(), z.unknown()),
});
const edgeModule = z.object({
  apiDescription: z.function({
    input: [],
    output: z.looseObject({ paths: z.record(z.string(), z.record(z.string(), operation)) }),
  }),
});

const described = async () => edgeModule.parse(await import(EDGE_MODULE)).apiDescription();

it("the API description is a valid OpenAPI 3.1 document and passes the linter's recommended rules", async () => {
  const config = await createConfig({
    extends: ["recommended-strict"],
    rules: {
      // 0.1 names `snapshots` where a VM's id may stand; the router takes fixed names first.
      "no-ambiguous-paths": "off",
      // A WebSocket answers 101, which this rule does not know; the next test does.
      "operation-2xx-response": "off",
    },
  });
  const problems = await lintFromString({ source: JSON.stringify(await described()), config });
  expect(problems.map(({ ruleId, message, location }) => `${ruleId}: ${message} ${location[0]?.pointer}`)).toEqual([]);
});

it("every operation has a name of its own and describes how it succeeds and how it fails", async () => {
  const operations = Object.values((await described()).paths).flatMap((path) => Object.values(path));
  expect(operations.length).toBeGreaterThan(50);
  expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
  for (const { responses, summary } of operations) {
    const succeeds = summary.startsWith("Not offered") ? [] : [expect.stringMatching(/^[12]\d\d$/)];
    expect([summary, Object.keys(responses).sort()]).toEqual([summary, [...succeeds, "4XX", "5XX"]]);
  }
});

it("a body is described by what it may hold, also where the schema reads it in a form of its own", async () => {
  const { paths } = await described();
  const bodyOf = (path: string) => JSON.stringify(paths[path]?.post?.requestBody);
  for (const member of ["users", "additionalFiles", "memSizeGb", "idleTimeoutSeconds", "template", "spec", "snapshotId"]) {
    expect(bodyOf("/v1/vms")).toContain(`"${member}"`);
  }
  for (const member of ["firewall", "metadata", "ttlSeconds", "slug"]) expect(bodyOf("/v5/vms")).toContain(`"${member}"`);
  expect(bodyOf("/v1/vms/{vmId}/exec-await")).toContain('"additionalProperties":false');
});
