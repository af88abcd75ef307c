import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

/** Secrets of the test deployment only; made up here and used nowhere else. */
const TEST_SECRETS = {
  TOKEN_MAC_KEYS: "dGVzdC1tYWMta2V5LW51bWJlci1vbmU",
  // SHA-256 of "operator-key-for-tests"
  OPERATOR_KEY_SHA256: "de413284fee222ff4399cb0dd21e4d2c74ae894fcfc7b69d3c7d32c760646f2f",
  // Tests send what they like as fast as they can; those of the limits set their own.
  RATE_PRINCIPAL_PER_S: "0",
  AUDIT_FLUSH_MS: "10",
};

/**
 * A second try in CI for tests of many real processes, whose machine may stand still under them. The report marks each test that needed
 * it ("retry x1"): that is a fault to find, not one to get used to. Elsewhere none.
 */
const SECOND_TRY_IN_CI = process.env.CI === "true" ? 1 : 0;

export default defineConfig({
  test: {
    reporters: ["default", "./test/conformance/table-reporter.ts"],
    // Most tests wait for real processes. Two files at once halve that; more would only take the processor from each other's deadlines.
    maxWorkers: 2,
    projects: [
      {
        plugins: [cloudflareTest({ wrangler: { configPath: "./wrangler.toml" }, miniflare: { bindings: TEST_SECRETS } })],
        test: {
          name: "edge",
          testTimeout: 30_000,
          hookTimeout: 30_000,
          include: ["test/worker/**/*.test.ts", "test/durable-objects/**/*.test.ts"],
          globalSetup: ["test/fakes/host-server.ts"],
        },
      },
      {
        test: {
          name: "node",
          // Properties are tried on many inputs, and the machine may be busy.
          testTimeout: 30_000,
          include: ["test/{protocol,service,forwarder,bin,fuzz,model}/**/*.test.ts"],
          exclude: ["test/forwarder/openssh/**"],
        },
      },
      {
        // Under the real OpenSSH: the forwarder with its clients, the host agent with its sshd. Many processes, so no part of
        // test:fast.
        test: {
          name: "openssh",
          retry: SECOND_TRY_IN_CI,
          include: ["test/forwarder/openssh/**/*.test.ts", "test/host/**/*.test.ts"],
          testTimeout: 30_000,
          hookTimeout: 30_000,
        },
      },
      {
        // Parts that are killed and messages that are lost; against the clock, so with nobody beside it.
        test: {
          name: "chaos",
          retry: SECOND_TRY_IN_CI,
          include: ["test/chaos/**/*.test.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          fileParallelism: false,
          sequence: { groupOrder: 3 },
        },
      },
      {
        test: {
          name: "guest",
          retry: SECOND_TRY_IN_CI,
          include: ["test/guest/**/*.test.ts"],
          // The whole contract takes virtual machines without KVM many minutes: `npm run test:qemu`.
          exclude: process.env.POSTERN_TEST_QEMU === "full" ? [] : ["test/guest/qemu-contract.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 600_000,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: "system",
          retry: SECOND_TRY_IN_CI,
          include: ["test/{e2e,conformance}/**/*.test.ts"],
          globalSetup: ["test/system/started-system.ts"],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          // After everything else, so that real logins and transfers have the machine to themselves.
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
