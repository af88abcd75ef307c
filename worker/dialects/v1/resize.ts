import { z } from "zod";
import { machineResources } from "../../../protocol/host-api.ts";
import { resizeVm } from "../../services/vms-resize.ts";
import { accountEndpoint, type Endpoint } from "../endpoint.ts";
import { mapped, nothing } from "../translate.ts";
import { layer } from "./create-layer.ts";

const { vcpuCount, memSizeGb, rootfsSizeGb } = layer.shape;

/** Sizes of a VM that is there (contract section 3.2). */
export const resizeEndpoints: readonly Endpoint[] = [
  accountEndpoint({
    method: "post",
    path: "/v1/vms/{vmId}/resize",
    summary: "Give a VM other sizes, at once if it runs",
    body: z.strictObject({ vcpuCount, memSizeGb, rootfsSizeGb }).transform((body) =>
      machineResources.parse({
        cpu: body.vcpuCount ?? undefined,
        memory: body.memSizeGb ?? undefined,
        storage: body.rootfsSizeGb ?? undefined,
      }),
    ),
    answer: nothing,
    handle: async (edge, { accountId }, { path, body }) =>
      mapped(await resizeVm(edge, accountId, path.vmId, body, false), () => ({})),
  }),
];
