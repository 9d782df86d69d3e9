import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@mig/kit";
import {
  type AwsMetadata,
  freePort,
  type GcpMetadata,
  startAwsMetadata,
  startGcpMetadata,
} from "@mig/sandbox";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readMetadata } from "../src/boot/read-metadata.ts";
import { readPatiently } from "../src/boot/read-patiently.ts";
import { readSettings } from "../src/boot/settings.ts";

let gcp: GcpMetadata;
let aws: AwsMetadata;
let firmware: string;
beforeEach(async () => {
  [gcp, aws] = await Promise.all([startGcpMetadata(), startAwsMetadata()]);
  firmware = await mkdtemp(join(tmpdir(), "mig-dmi-"));
});
afterEach(async () => {
  await Promise.all([gcp.close(), aws.close(), rm(firmware, { recursive: true })]);
});

const auto = (endpoint: string, timeoutMs = 1_000) =>
  readMetadata({ source: "auto", endpoint, timeoutMs, dmiDirectory: firmware });
const settingsOf = (from: GcpMetadata | AwsMetadata, cloud: "gcp" | "aws", environment = {}) =>
  readSettings({
    flags: {
      settings: new Map([
        ["metadata.source", cloud],
        ["metadata.endpoint", from.url],
      ]),
    },
    environment,
    metadata: readMetadata,
  });

describe("which cloud this is", () => {
  it.each([
    ["sys_vendor", "Google\n", "gcp"],
    ["product_name", "Google Compute Engine\n", "gcp"],
    ["sys_vendor", "Amazon EC2\n", "aws"],
    ["board_asset_tag", "i-0123456789abcdef0\n", "aws"],
  ] as const)("the firmware's %s %j says %s, and nobody else is asked", async (file, text, cloud) => {
    await writeFile(join(firmware, file), text);
    const server = cloud === "gcp" ? gcp : aws;
    expect(await auto(server.url)).toMatchObject({ facts: { cloud } });
    const isForeign = ({ path }: { path: string }) => path.startsWith("/latest") !== (cloud === "aws");
    expect(server.requests.filter(isForeign)).toEqual([]);
  });

  it("the firmware of somebody else ends the search without a question", async () => {
    await writeFile(join(firmware, "sys_vendor"), "Dell Inc.\n");
    expect(await auto(gcp.url)).toEqual({ given: [], problems: [] });
    expect(gcp.requests).toEqual([]);
  });

  it("without firmware the services are asked", async () => {
    expect((await auto(gcp.url)).facts?.cloud).toBe("gcp");
    expect((await auto(aws.url)).facts?.cloud).toBe("aws");
  });

  it("no cloud takes no longer than the time that was given", async () => {
    for (const kind of ["hang", "garbage", "cut", "endless"] as const) {
      gcp.fail({ kind });
      const beganAtMs = performance.now();
      expect(await auto(gcp.url, 300)).toEqual({ given: [], problems: [] });
      expect(performance.now() - beganAtMs).toBeLessThan(600);
    }
    expect(await auto(`http://127.0.0.1:${await freePort()}`, 300)).toEqual({ given: [], problems: [] });
  });
});

describe("the metadata of GCP", () => {
  it("gives settings, facts and the name of the VM", async () => {
    gcp.setProjectAttribute("miglet-pool-id", "of-project");
    gcp.setProjectAttribute("miglet-org-id", "acme");
    gcp.setAttribute(
      "miglet-config",
      "controller: { endpoint: 'http://c:1', timeout: 20s }\nheartbeat: { interval: 9s }",
    );
    gcp.setAttribute("miglet-pool-id", "of-instance");
    gcp.setAttribute("miglet-heartbeat-interval", "10s");
    gcp.setAttribute("startup-script", "#!/bin/sh\n");
    gcp.setFact("scheduling/preemptible", "TRUE");
    const { settings, origins, places, problems, facts } = await settingsOf(gcp, "gcp", {
      MIGLET_CONTROLLER_TIMEOUT: "50s",
      MIGLET_LOGGING_LEVEL: "debug",
    });
    expect(problems).toEqual([]);
    expect(settings).toMatchObject({
      pool_id: "of-instance",
      org_id: "acme",
      vm_id: "runner-vm-1",
      "controller.timeout": 20_000,
      "heartbeat.interval": 10_000,
      "logging.level": "debug",
    });
    expect([origins.get("vm_id"), origins.get("pool_id"), origins.get("logging.level")]).toEqual([
      "metadata",
      "metadata",
      "environment",
    ]);
    expect(places.get("pool_id")).toBe("the instance attribute miglet-pool-id");
    expect(facts).toEqual({
      cloud: "gcp",
      instanceId: "4711000000000000123",
      instanceName: "runner-vm-1",
      hostname: "runner-vm-1.c.acme.internal",
      zone: "europe-west1-b",
      machineType: "n2-standard-4",
      isSpot: true,
    });
  });

  it("a large startup script of somebody else does not hide our attributes", async () => {
    gcp.setAttribute("startup-script", "x".repeat(300 * 1024));
    gcp.setAttribute("miglet-pool-id", "p");
    const { values, isTransient } = await settingsOf(gcp, "gcp");
    expect(values.pool_id).toBe("p");
    expect(isTransient).toBe(false);
    expect(gcp.requests.some(({ path }) => path.includes("startup-script"))).toBe(false);
  });

  it("an answer without Google's mark is nobody's", async () => {
    expect((await readMetadata({ source: "gcp", endpoint: aws.url, timeoutMs: 500 })).silence?.why).toMatch(
      /not Google's/,
    );
  });

  it("one failure is made good by the second attempt", async () => {
    gcp.setAttribute("miglet-pool-id", "p");
    for (const fault of [
      { kind: "status", status: 503, times: 8 },
      { kind: "cut", times: 1 },
      { kind: "hang", times: 1 },
    ] as const) {
      gcp.fail(fault);
      expect((await settingsOf(gcp, "gcp")).values.pool_id).toBe("p");
    }
  });
});

describe("the metadata of AWS", () => {
  it("gives user data, tags over it, facts and the id of the instance", async () => {
    aws.setUserData("miglet:\n  pool_id: of-user-data\n  controller: { endpoint: 'http://c:1' }\n");
    aws.setTag("miglet.pool_id", "of-tag");
    aws.setTag("miglet-org-id", "acme");
    aws.setTag("Name", "runner 7");
    const { settings, facts, places } = await settingsOf(aws, "aws");
    expect(settings).toMatchObject({ pool_id: "of-tag", org_id: "acme", vm_id: "i-0123456789abcdef0" });
    expect(places.get("controller.endpoint")).toBe("the user data");
    expect(facts).toMatchObject({
      cloud: "aws",
      zone: "eu-west-1b",
      machineType: "c7i.large",
      isSpot: false,
    });
    expect(facts?.instanceName).toBe("runner 7");
    // Version 2 only: nothing but the token is asked for without one.
    for (const { method, headers } of aws.requests)
      expect(method === "PUT" || headers["x-aws-ec2-metadata-token"] !== undefined).toBe(true);
  });

  it("tags that are not enabled and no user data are no fault", async () => {
    aws.enableTags(false);
    const { values, isTransient, facts } = await settingsOf(aws, "aws");
    expect(values.vm_id).toBe("i-0123456789abcdef0");
    expect(isTransient).toBe(false);
    expect(facts?.instanceName).toBeUndefined();
  });
});

describe("a metadata service that does not answer", () => {
  it("where there should be one is a problem that may pass, told among the others", async () => {
    gcp.fail({ kind: "hang" });
    const { problems, isTransient } = await readSettings({
      flags: {
        settings: new Map([
          ["metadata.source", "gcp"],
          ["metadata.endpoint", gcp.url],
          ["metadata.timeout", "100ms"],
        ]),
      },
      environment: {},
      metadata: readMetadata,
    });
    expect(isTransient).toBe(true);
    expect(problems.map(({ key }) => key)).toContain("metadata.source");
  });

  it("is not waited for where a setting is wrong anyway", async () => {
    gcp.fail({ kind: "status", status: 503 });
    const wrong = { MIGLET_HEARTBEAT_INTERVAL: "soon" };
    const { problems, isTransient } = await settingsOf(gcp, "gcp", wrong);
    expect(isTransient).toBe(false);
    expect(problems.map(({ key }) => key)).toEqual(
      expect.arrayContaining(["heartbeat.interval", "pool_id", "metadata.source"]),
    );
  });

  it("is asked again until it does", async () => {
    gcp.fail({ kind: "status", status: 500, times: 40 });
    gcp.setAttribute("miglet-config", "pool_id: p\ncontroller: { endpoint: 'http://c' }");
    const flags = {
      settings: new Map([
        ["metadata.source", "gcp"],
        ["metadata.endpoint", gcp.url],
      ]),
    };
    const sources = { flags, environment: {}, metadata: readMetadata };
    const read = await readPatiently(sources, silentLog, { firstMs: 10, capMs: 50, timesMax: 5 });
    expect(read.settings?.pool_id).toBe("p");
  });

  it("is only a warning for a machine that has its settings elsewhere", async () => {
    await writeFile(join(firmware, "sys_vendor"), "Google");
    gcp.fail({ kind: "status", status: 404 });
    gcp.fail({ kind: "hang" });
    const given = {
      pool_id: "p",
      vm_id: "v",
      "controller.endpoint": "http://c",
      "metadata.timeout": "100ms",
    };
    const { settings, warnings, isTransient } = await readSettings({
      flags: { settings: new Map(Object.entries(given)) },
      environment: {},
      metadata: (access) => readMetadata({ ...access, endpoint: gcp.url, dmiDirectory: firmware }),
    });
    expect(settings?.vm_id).toBe("v");
    expect(isTransient).toBe(false);
    expect(warnings.join()).toMatch(/metadata service of gcp does not answer/);
  });
});
