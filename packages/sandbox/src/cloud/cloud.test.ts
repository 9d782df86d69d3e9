import { afterEach, describe, expect, it } from "vitest";
import { type AwsMetadata, startAwsMetadata } from "./aws-metadata.ts";
import { type GcpMetadata, startGcpMetadata } from "./gcp-metadata.ts";

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

describe("the stand-in for GCP's metadata", () => {
  const start = async (): Promise<GcpMetadata> => {
    const server = await startGcpMetadata({ attributes: { "miglet-pool-id": "p" } });
    open.push(server);
    return server;
  };
  const mark = { "Metadata-Flavor": "Google" };
  const ask = (server: GcpMetadata, path: string, headers: Record<string, string> = mark) =>
    fetch(`${server.url}/computeMetadata/v1/${path}`, { headers, redirect: "manual" });

  it("refuses who does not show the header, and who comes through a proxy", async () => {
    const server = await start();
    expect((await ask(server, "instance/id", {})).status).toBe(403);
    expect((await ask(server, "instance/id", { ...mark, "X-Forwarded-For": "10.0.0.1" })).status).toBe(403);
    const answer = await ask(server, "instance/id");
    expect([answer.status, answer.headers.get("metadata-flavor")]).toEqual([200, "Google"]);
  });

  it("lists directories, and gives a tree when asked for it", async () => {
    const server = await start();
    expect(await (await ask(server, "instance/attributes/")).text()).toBe("miglet-pool-id\n");
    expect(await (await ask(server, "instance/?recursive=true")).json()).toMatchObject({
      machineType: "projects/1234567890/machineTypes/n2-standard-4",
      scheduling: { preemptible: "FALSE" },
      attributes: { "miglet-pool-id": "p" },
    });
    expect((await ask(server, "instance/scheduling")).status).toBe(301);
    expect((await ask(server, "instance/nothing")).status).toBe(404);
  });

  it("holds a question until the value changes, or its time is over", async () => {
    const server = await start();
    const etag = (await ask(server, "instance/preempted")).headers.get("etag");
    const over = await ask(server, `instance/preempted?wait_for_change=true&timeout_sec=0&last_etag=${etag}`);
    expect(await over.text()).toBe("FALSE");
    const held = ask(server, `instance/preempted?wait_for_change=true&last_etag=${etag}`);
    server.preempt();
    expect(await (await held).text()).toBe("TRUE");
    const known = await ask(server, "instance/preempted?wait_for_change=true&last_etag=0");
    expect(await known.text()).toBe("TRUE");
  });
});

describe("the stand-in for AWS's metadata", () => {
  const start = async (): Promise<AwsMetadata> => {
    const server = await startAwsMetadata({ tags: { "miglet.pool_id": "p" }, userData: "x" });
    open.push(server);
    return server;
  };
  const token = (server: AwsMetadata, headers: Record<string, string>) =>
    fetch(`${server.url}/latest/api/token`, { method: "PUT", headers });
  const ttl = (seconds: string) => ({ "X-aws-ec2-metadata-token-ttl-seconds": seconds });
  const ask = (server: AwsMetadata, path: string, session?: string) =>
    fetch(`${server.url}/latest/${path}`, {
      headers: session === undefined ? {} : { "X-aws-ec2-metadata-token": session },
    });

  it("gives a token for a fair time only, and not to a proxy", async () => {
    const server = await start();
    for (const seconds of ["0", "21601", "x"]) expect((await token(server, ttl(seconds))).status).toBe(400);
    expect((await token(server, {})).status).toBe(400);
    expect((await token(server, { ...ttl("60"), "X-Forwarded-For": "10.0.0.1" })).status).toBe(403);
    expect((await token(server, ttl("21600"))).status).toBe(200);
  });

  it("answers nobody without a token, or with one that it does not know", async () => {
    const server = await start();
    expect((await ask(server, "meta-data/instance-id")).status).toBe(401);
    const session = await (await token(server, ttl("60"))).text();
    expect(await (await ask(server, "meta-data/instance-id", session)).text()).toMatch(/^i-/);
    server.forgetTokens();
    expect((await ask(server, "meta-data/instance-id", session)).status).toBe(401);
  });

  it("has tags when they are enabled, and a notice when it comes", async () => {
    const server = await start();
    const session = await (await token(server, ttl("60"))).text();
    expect(await (await ask(server, "meta-data/tags/instance/miglet.pool_id", session)).text()).toBe("p");
    server.enableTags(false);
    expect((await ask(server, "meta-data/tags/instance", session)).status).toBe(404);
    expect((await ask(server, "meta-data/spot/instance-action", session)).status).toBe(404);
    server.interrupt("stop", Date.parse("2026-11-21T06:00:00.500Z"));
    expect(await (await ask(server, "meta-data/spot/instance-action", session)).json()).toEqual({
      action: "stop",
      time: "2026-11-21T06:00:00Z",
    });
  });
});
