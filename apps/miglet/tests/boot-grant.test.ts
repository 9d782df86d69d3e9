import {
  type AwsMetadata,
  freePort,
  type GcpMetadata,
  startAwsMetadata,
  startGcpMetadata,
} from "@mig/sandbox";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { readGrantFromMetadata, understand } from "../src/boot/grant-from-metadata.ts";

/** A grant that somebody put into the instance's metadata beforehand. */
let gcp: GcpMetadata;
let aws: AwsMetadata;
beforeEach(async () => {
  [gcp, aws] = await Promise.all([startGcpMetadata(), startAwsMetadata()]);
});
afterEach(async () => {
  await Promise.all([gcp.close(), aws.close()]);
});

const soon = new Date(Date.now() + 30 * 60_000).toISOString();
const token = "AABBCCDDEEFFGGHHIIJJKKLLMMNNO";
const jit = Buffer.from(JSON.stringify({ ".runner": "e30=", ".credentials": "e30=" })).toString("base64");
const onGcp = (more = {}) =>
  readGrantFromMetadata({ cloud: "gcp", endpoint: gcp.url, timeoutMs: 1_000, ...more });
const onAws = (more = {}) =>
  readGrantFromMetadata({ cloud: "aws", endpoint: aws.url, timeoutMs: 1_000, ...more });
const whole = {
  registration_token: token,
  runner_url: "https://github.com/acme",
  runner_group: "default",
  labels: ["self-hosted", "linux"],
};

it.each(["github-registration_token", "github-registration-token"])(
  "an attribute %s is what seed 001 calls /metadata/github/registration_token",
  async (name) => {
    gcp.setAttribute(name, JSON.stringify({ ...whole, expires_at: soon }));
    expect(await onGcp()).toEqual({ is: "found", parameters: whole, expiresAtMs: Date.parse(soon) });
    expect(await onGcp({ path: "/metadata/github/registration_token" })).toMatchObject({ is: "found" });
  },
);

it("a bare token in a tag is good for the organization of the settings, and else for nothing", async () => {
  aws.setTag("github-registration_token", ` ${token}\n`);
  expect(await onAws({ runnerUrl: "https://github.com/acme" })).toEqual({
    is: "found",
    parameters: { registration_token: token, runner_url: "https://github.com/acme" },
  });
  expect(await onAws()).toMatchObject({ is: "wrong", message: expect.stringContaining("runner_url") });
});

it("a bare JIT config knows where it is for", async () => {
  gcp.setAttribute("runner-grant", jit);
  expect(await onGcp({ path: "runner-grant" })).toEqual({ is: "found", parameters: { jit_config: jit } });
});

it("one that has expired, or will in a moment, is not used", async () => {
  for (const ms of [-1_000, 30_000]) {
    const expires_at = new Date(Date.now() + ms).toISOString();
    gcp.setAttribute("github-registration-token", JSON.stringify({ ...whole, expires_at }));
    expect(await onGcp()).toMatchObject({ is: "expired" });
  }
});

it("a project's attribute is everybody's and no grant", async () => {
  gcp.setProjectAttribute("github-registration_token", token);
  expect(await onGcp()).toMatchObject({ is: "none" });
});

it("user data may hold one, beside the settings", async () => {
  const grant = `miglet_grant:\n  jit_config: ${jit}\n  labels: [linux]\n  expires_at: ${soon}\n`;
  aws.setUserData(`#cloud-config\nmiglet:\n  pool_id: p\n${grant}`);
  expect(await onAws()).toEqual({
    is: "found",
    parameters: { jit_config: jit, labels: ["linux"] },
    expiresAtMs: Date.parse(soon),
  });
  aws.setUserData("miglet_grant: 5\n");
  expect(await onAws()).toMatchObject({ is: "wrong" });
  aws.setUserData("miglet:\n  pool_id: p\n");
  expect(await onAws()).toMatchObject({ is: "none" });
});

it("tags that are not enabled are none", async () => {
  aws.enableTags(false);
  expect(await onAws()).toMatchObject({ is: "none" });
});

it("a service that is silent, broken or gone may help later", async () => {
  for (const fault of [
    { kind: "hang" },
    { kind: "status", status: 503 },
    { kind: "garbage" },
    { kind: "cut" },
  ] as const) {
    gcp.fail(fault);
    aws.fail(fault);
    expect(await onGcp({ timeoutMs: 200 })).toMatchObject({ is: "silent" });
    expect(await onAws({ timeoutMs: 200 })).toMatchObject({ is: "silent" });
  }
  const endpoint = `http://127.0.0.1:${await freePort()}`;
  expect(await onGcp({ endpoint, timeoutMs: 200 })).toMatchObject({ is: "silent" });
});

it.each([
  ["/"],
  ["/metadata"],
  ["miglet-github-token"],
  ["/metadata/miglet-x"],
  ["a b"],
  ["x?recursive=true"],
  ["x".repeat(200)],
])("github.metadata_path %j is told to be wrong, and nobody is asked", async (path) => {
  expect(await onGcp({ path })).toMatchObject({ is: "wrong" });
  expect(gcp.requests).toEqual([]);
});

it.each([
  ["{"],
  ["{}"],
  ["[1]"],
  ["two words"],
  [JSON.stringify({ ...whole, jit_config: jit })],
  [JSON.stringify({ ...whole, expires_at: "tomorrow" })],
  [JSON.stringify({ ...whole, expires_at: 5 })],
  [JSON.stringify({ jit_config: "no base64!" })],
  [JSON.stringify({ jit_config: Buffer.from("[]").toString("base64") })],
  [JSON.stringify({ ...whole, registration_token: "two words" })],
])("%j is no grant", (text) => {
  expect(understand(text, "x", undefined, Date.now())).toMatchObject({ is: "wrong" });
});

it("whatever is there, it is a grant or a sentence, and the sentence does not quote it", () => {
  const secret = "S3cr3tS3cr3tS3cr3t";
  const content = fc.oneof(
    fc.string(),
    fc.json(),
    fc
      .record(
        {
          registration_token: fc.constantFrom(secret, `${secret} ${secret}`, 5, null),
          jit_config: fc.constantFrom(secret, jit, {}, ""),
          runner_url: fc.constantFrom("https://github.com/acme", 5),
          labels: fc.oneof(fc.array(fc.string()), fc.string(), fc.integer()),
          expires_at: fc.oneof(fc.constantFrom(soon, secret), fc.string()),
        },
        { requiredKeys: [] },
      )
      .map((value) => JSON.stringify(value)),
    fc.constant(`${secret} ${secret}`),
  );
  let found = 0;
  fc.assert(
    fc.property(content, (text) => {
      const grant = understand(text, "x", undefined, Date.now());
      if (grant.is !== "found") expect(grant.message).not.toContain(secret);
      else {
        found += 1;
        const { registration_token, jit_config, runner_url } = grant.parameters;
        expect((registration_token === undefined) !== (jit_config === undefined)).toBe(true);
        if (jit_config === undefined) expect(runner_url).toBeDefined();
      }
    }),
    { numRuns: 2_000 },
  );
  expect(found).toBeGreaterThan(10);
});
