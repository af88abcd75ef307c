import { equalInConstantTime, sha256Hex } from "../../protocol/bytes.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { CREDENTIAL_INVALID } from "../masks.ts";
import { readPresented } from "./presented.ts";

/** Authenticates the operator of the deployment by the hash of the key that was shown. */
export async function authenticateOperator(edge: Edge, headers: Headers): Promise<Result<null>> {
  const presented = readPresented(headers);
  if (presented === null) return failure("credential-missing", "Send the operator's key as `Authorization: Bearer`.");
  if (presented.from !== "bearer") return CREDENTIAL_INVALID;
  const known = edge.env.OPERATOR_KEY_SHA256.trim().toLowerCase();
  return equalInConstantTime(await sha256Hex(presented.text), known) ? success(null) : CREDENTIAL_INVALID;
}
