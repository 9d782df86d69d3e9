import { VmsQuery } from "@mig/protocol/schemas";
import { verdicts } from "../../../../runner/inventory-judge.ts";

/** What operators ask and get about GitHub's runners, as JSON Schema. */
const { limit, cursor, pool_id, org_id } = VmsQuery.properties;
const text = { type: "string" };
const orNull = (type: string, more: object = {}) => ({ type: [type, "null"], ...more });
const time = orNull("string", { description: "RFC 3339" });
const object = <P extends object>(properties: P, required = Object.keys(properties)) => ({
  type: "object",
  properties,
  required,
});

export const RunnersQuery = object(
  {
    verdict: { type: "string", enum: verdicts },
    pool_id,
    org_id,
    app: { type: "string", minLength: 1, maxLength: 128, description: "of a GitHub App" },
    limit,
    cursor,
  },
  [],
);

const RunnerView = object({
  app: text,
  account: { type: "string", description: "as in github.com/acme" },
  runner_id: orNull("integer", { description: "GitHub's; null when it does not know the runner" }),
  runner_name: text,
  vm_id: orNull("string"),
  pool_id: orNull("string"),
  org_id: orNull("string"),
  verdict: { type: "string", enum: verdicts },
  reason: text,
  status: { type: "string", enum: ["online", "offline"] },
  busy: { type: "boolean" },
  offline_since: time,
  verdict_since: time,
  seen_at: time,
  removed_at: time,
  drained_at: time,
});

const LookView = object({
  app: text,
  account: text,
  looked_at: time,
  next_at: time,
  problem: orNull("string", { description: "why the last look failed" }),
});

export const RunnersAnswer = object({
  runners: { type: "array", items: RunnerView },
  next_cursor: orNull("string"),
  counts: { type: "object", additionalProperties: { type: "integer" }, description: "by verdict" },
  looks: { type: "array", items: LookView },
});
