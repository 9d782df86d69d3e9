import { readFileSync } from "node:fs";
import { ApiError, createApiClient } from "@mig/api-client";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type IdentityLab, openIdentityLab } from "../apps/controller/tests/identity-lab.ts";
// @ts-expect-error A script without types.
import { renderClient } from "../scripts/generate-api-client.mjs";

/** The generated client: it is what the controller says of itself, and it works against one. */
let lab: IdentityLab;
const stops: (() => Promise<void>)[] = [];
beforeAll(async () => {
  lab = await openIdentityLab({ atEnd: (stop) => void stops.push(stop) });
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

it("is generated from this controller's document", async () => {
  const document = await (await fetch(`${lab.url}/api/v1/openapi.json`)).json();
  const path = new URL("../packages/api-client/src/generated.ts", import.meta.url);
  expect(renderClient(document), "run npm run generate").toBe(readFileSync(path, "utf8"));
});

it("calls with types, writes once for one Idempotency-Key, and says what was refused", async () => {
  const token = await lab.key({ role: "operator" });
  const client = createApiClient({ url: lab.url, token: () => token });
  const made = await client.call("POST /api/v1/join-tokens", {
    body: { pool_id: "pool-a", expires_in: "5m" },
  });
  const { join_tokens: tokens } = await client.call("GET /api/v1/join-tokens");
  expect(tokens.map(({ id }) => id)).toContain(made.id);
  expect(await client.call("DELETE /api/v1/join-tokens/{id}", { path: { id: made.id } })).toBeUndefined();
  const { access_token: own } = (await lab.machine("vm-1").join(await lab.joinToken())).body;
  await fetch(`${lab.url}/api/v1/vms/vm-1/heartbeat`, {
    method: "POST",
    headers: { authorization: `Bearer ${own}`, "content-type": "application/json" },
    body: "{}",
  });
  const order = { path: { vm_id: "vm-1" }, body: { type: "drain" }, idempotencyKey: "drain-1" };
  const [one, same] = [
    await client.call("POST /api/v1/vms/{vm_id}/commands", order),
    await client.call("POST /api/v1/vms/{vm_id}/commands", order),
  ];
  expect(one).toEqual(same);

  const refused = client.call("POST /api/v1/api-keys", { body: { name: "mine", role: "admin" } });
  await expect(refused).rejects.toMatchObject({ name: "ApiError", status: 403, code: "forbidden" });
  const nobody = createApiClient({ url: "http://127.0.0.1:9", timeoutMs: 5_000 });
  const error = await nobody.call("GET /api/v1/vms").catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ApiError);
  expect(error).toMatchObject({ status: 0, code: "unreachable" });
  // @ts-expect-error There is no such operation.
  await expect(client.call("GET /api/v1/nothing")).rejects.toMatchObject({ status: 404 });
});
