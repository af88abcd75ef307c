import { z } from "zod";
import { machineResources } from "../../../protocol/host-api.ts";
import { resizeVm } from "../../services/vms-resize.ts";
import { withSlug } from "../../services/vms-slugs.ts";
import { accountEndpoint, type Endpoint } from "../endpoint.ts";
import { mapped } from "../translate.ts";
import { toVmData, vmData } from "./vm-data.ts";

/** Sizes of a VM that is there (contract section 3.4). */
export const resizeEndpoints: readonly Endpoint[] = [
  accountEndpoint({
    method: "post",
    path: "/v5/vms/{vmId}/resize",
    summary: "Give a VM larger sizes, at once if it runs; memory and storage in MiB",
    body: z.strictObject(machineResources.shape),
    answer: vmData,
    handle: async (edge, { accountId }, { path, body }) =>
      mapped(await withSlug(edge, await resizeVm(edge, accountId, path.vmId, body, true)), toVmData),
  }),
];
