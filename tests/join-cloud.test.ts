import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createAwsRegion,
  startAwsMetadata,
  startAwsSts,
  startGcpIdentity,
  startGcpMetadata,
} from "@mig/sandbox";
import { expect, it, onTestFinished } from "vitest";
import { openHouse } from "./lib/house.ts";

/** Real agents on machines of a cloud: nothing is given to them, and the cloud says who they are. */
it("instances of GCP and AWS join by what their cloud says, and register their runners", async () => {
  const role = {
    ...{ account: "123456789012", role: "mig-runner", session: "i-0123456789abcdef0" },
    ...{ accessKeyId: "ASIAEXAMPLE", secretKey: "a-secret-key", sessionToken: "a-session-token" },
  };
  const [google, region, sts] = await Promise.all([
    startGcpIdentity(),
    createAwsRegion(),
    startAwsSts([role]),
  ]);
  const gcp = await startGcpMetadata({ signIdentity: (audience) => google.sign(audience) });
  const aws = await startAwsMetadata({
    identity: { pendingTime: new Date().toISOString() },
    signDocument: (document) => region.sign(document),
    role: { ...role, name: "mig-runner" },
  });
  const dir = mkdtempSync(join(process.env["MIG_TEST_RUN_DIR"] ?? tmpdir(), "mig-clouds-"));
  writeFileSync(join(dir, "aws.pem"), region.certificatesPem);
  const house = await openHouse({
    join: true,
    clouds: {
      policy: {
        gcp: { projects: ["acme-ci"] },
        aws: { accounts: ["123456789012"], regions: ["eu-west-1"], roles: ["mig-runner"] },
      },
      settings: {
        gcp_keys_url: google.url,
        aws_certificates_file: join(dir, "aws.pem"),
        aws_sts_url: sts.url,
      },
    },
  });
  onTestFinished(async () => {
    await house[Symbol.asyncDispose]();
    await Promise.all([google.close(), sts.close(), gcp.close(), aws.close()]);
  });
  const on = (cloud: string, url: string): string[] => [
    `join: { method: ${cloud} }`,
    `metadata: { source: ${cloud}, endpoint: "${url}" }`,
  ];
  const vms = await Promise.all([
    house.startVm("runner-vm-1", { joinBy: on("gcp", gcp.url) }),
    house.startVm("i-0123456789abcdef0", { joinBy: on("aws", aws.url) }),
  ]);
  for (const { vmId, agent } of vms) {
    await agent.says("The VM has joined.");
    expect(await house.until(vmId, "state", "idle")).toMatchObject({ pool_id: "pool-a", org_id: "acme" });
  }
  const { body } = await house.api("GET", "audit");
  const joins = (body["entries"] as { action: string; details: { method?: string } }[])
    .filter(({ action }) => action === "vm.join")
    .map(({ details }) => details.method);
  expect(joins.sort()).toEqual(["aws", "gcp"]);
  // What they joined with is in no log.
  const logs = [...vms.flatMap(({ agent }) => agent.lines), ...house.controller.lines];
  expect(JSON.stringify(logs)).not.toMatch(/a-secret-key|a-session-token|eyJ[\w-]{20,}\./);

  const stranger = await house.startVm("runner-vm-9", {
    joinBy: on("gcp", gcp.url),
    // Nobody takes its last words.
    env: { MIGLET_SHUTDOWN_FLUSH_TIMEOUT: "500ms" },
  });
  expect(await stranger.agent.ended()).toBe(4);
  expect(stranger.agent.lines.map(({ msg, error }) => JSON.stringify([msg, error])).join()).toContain(
    "this machine is runner-vm-1",
  );
});
