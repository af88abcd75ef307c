import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { access, constants, readFile } from "node:fs/promises";
import { release } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { writeFileAtomically } from "../../../service/atomic-file.ts";
import type { Progress } from "../../driver.ts";
import { runCommand } from "../../network/run-command.ts";
import { ensureVmImage, type VmImage } from "./image.ts";

/** Whether this host's KVM runs a machine, and why not in a few words. */
export type KvmAnswer = { readonly works: true } | { readonly works: false; readonly why: string };

const answer = z.union([z.object({ works: z.literal(true) }), z.object({ works: z.literal(false), why: z.string() })]);

export function qemuVersion(): Promise<string> {
  return runCommand("engine", "qemu-system-x86_64", ["--version"]);
}

/** Why KVM cannot be used, as far as that can be seen without booting anything; null: it takes a boot to know. */
async function kvmMissing(): Promise<string | null> {
  try {
    await access("/dev/kvm", constants.R_OK | constants.W_OK);
    return null;
  } catch {
    return "there is no /dev/kvm that this process may use";
  }
}

/** The same as `probeKvm` with the image that machines would have; builds that only if it takes a boot to know. */
export async function kvmAnswer(cacheDir: string, diskGib: number, timeoutMs: number, progress: Progress): Promise<KvmAnswer> {
  const missing = await kvmMissing();
  if (missing !== null) return { works: false, why: missing };
  return probeKvm(cacheDir, await ensureVmImage(cacheDir, diskGib, progress), timeoutMs, progress);
}

/**
 * Boots a kernel under KVM to see whether it runs: a device that opens, and even a QEMU that says that KVM is enabled, prove
 * nothing on a host that is itself a virtual machine. The answer is kept in `cacheDir` for this kernel, QEMU and image.
 */
export async function probeKvm(cacheDir: string, image: VmImage, timeoutMs: number, progress: Progress): Promise<KvmAnswer> {
  const missing = await kvmMissing();
  if (missing !== null) return { works: false, why: missing };
  const version = await qemuVersion();
  const key = createHash("sha256").update(`${release()}\n${version}\n${image.key}`).digest("hex").slice(0, 16);
  const path = join(cacheDir, `kvm-${key}.json`);
  const known = answer.safeParse(await readFile(path, "utf8").then(JSON.parse, () => null));
  if (known.success) return known.data;
  progress("looking whether KVM works");
  const trouble = await tryBoot(image, timeoutMs);
  const found: KvmAnswer = trouble === null ? { works: true } : { works: false, why: `/dev/kvm is there, but ${trouble}` };
  writeFileAtomically(path, JSON.stringify(found));
  return found;
}

/** What went wrong, or null. */
function tryBoot({ kernel, initrd }: VmImage, timeoutMs: number): Promise<string | null> {
  const args = [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256M"],
    ...["-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet postern.probe=1", "-serial", "stdio", "-no-reboot"],
  ];
  return new Promise((resolve) => {
    const child = execFile("qemu-system-x86_64", args, { timeout: timeoutMs, killSignal: "SIGKILL" }, (error, stdout, stderr) => {
      if (stdout.includes("postern: this machine runs")) resolve(null);
      else if (error?.killed) resolve(`a kernel did not come up on it in ${timeoutMs} ms`);
      else resolve(`QEMU cannot use it: ${stderr.trim().split("\n")[0]}`);
    });
    child.stdin?.end();
  });
}
