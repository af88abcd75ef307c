import { docsPage } from "./dialects/docs-page.ts";
import { describeEndpoints } from "./dialects/openapi.ts";
import { v1Endpoints } from "./dialects/v1/index.ts";
import { v5Endpoints } from "./dialects/v5/index.ts";

const ENDPOINTS = [...v1Endpoints, ...v5Endpoints];

/** The description of both dialects, for programs. */
export const apiDescription = () => describeEndpoints(ENDPOINTS);

/** The same, for people. */
export const apiPage = () => docsPage(ENDPOINTS);
