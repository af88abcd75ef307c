import { z } from "zod";
import { serviceLogs, serviceLogsQuery, serviceStatus, serviceUnit } from "../../../protocol/host-api.ts";
import {
  actOnServices,
  createService,
  deleteService,
  listServices,
  readService,
  readServiceLogs,
} from "../../services/guest-services.ts";
import { type Endpoint, forwardedEndpoint } from "../endpoint.ts";
import { mapped } from "../translate.ts";

const SYSTEMD = "/v1/vms/{vmId}/systemd";

const unnoted = { deleteAfterSuccess: z.literal(false, "is not offered here: leave it out").nullish() };

/** Every member of a unit may be null, which means absent. */
const unitBody = z.preprocess(withoutNulls, z.strictObject({ ...serviceUnit.shape, ...unnoted }));

const done = z.object({ success: z.literal(true), message: z.string() });
const serviceIds = z.strictObject({
  services: z
    .array(z.strictObject({ id: z.string() }))
    .min(1)
    .max(64),
});
const results = z.object({ results: z.array(z.object({ serviceId: z.string(), success: z.boolean(), message: z.string() })) });

/** systemd of the guest (contract section 5.4). */
export const systemdEndpoints: readonly Endpoint[] = [
  forwardedEndpoint("services", {
    method: "get",
    path: `${SYSTEMD}/services`,
    summary: "List the guest's services",
    answer: z.object({ services: z.array(z.object({ name: z.string() })) }),
    handle: listServices,
  }),
  forwardedEndpoint("services", {
    method: "post",
    path: `${SYSTEMD}/services`,
    summary: "Make a service in the guest, and start it unless it is not enabled",
    body: unitBody,
    answer: done.extend({ serviceName: z.string() }),
    handle: async (edge, authority, { body: { deleteAfterSuccess: _, ...unit } }) =>
      mapped(await createService(edge, authority, unit), () => ({
        success: true,
        message: "The service was made.",
        serviceName: unit.name,
      })),
  }),
  forwardedEndpoint("services", {
    method: "delete",
    path: `${SYSTEMD}/services/{serviceId}`,
    summary: "Stop and delete a service that was made here",
    answer: done,
    handle: async (edge, authority, { path }) =>
      mapped(await deleteService(edge, authority, path.serviceId), () => ({ success: true, message: "The service was deleted." })),
  }),
  forwardedEndpoint("services", {
    method: "get",
    path: `${SYSTEMD}/services/{serviceId}/status`,
    summary: "Show what a service is doing",
    answer: serviceStatus,
    handle: (edge, authority, { path }) => readService(edge, authority, path.serviceId),
  }),
  forwardedEndpoint("services", {
    method: "get",
    path: `${SYSTEMD}/services/{serviceId}/logs`,
    summary: "Show what a service wrote",
    query: serviceLogsQuery,
    answer: serviceLogs,
    handle: (edge, authority, { path, query }) => readServiceLogs(edge, authority, path.serviceId, query),
  }),
  ...(["start", "stop", "restart"] as const).map((verb) =>
    forwardedEndpoint("services", {
      method: "post",
      path: `/v1/vms/{vmId}/systemd/${verb}`,
      summary: `${verb[0]?.toUpperCase()}${verb.slice(1)} services`,
      body: serviceIds,
      answer: results,
      handle: async (edge, authority, { body }) => {
        const acted = await actOnServices(edge, authority, { verb, names: body.services.map(({ id }) => id) });
        return mapped(acted, (answer) => ({
          results: answer.results.map(({ name, success, message }) => ({ serviceId: name, success, message })),
        }));
      },
    }),
  ),
];

function withoutNulls(value: unknown): unknown {
  const isRecord = typeof value === "object" && value !== null && !Array.isArray(value);
  return isRecord ? Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null)) : value;
}
