/**
 * What operators send and get about GitHub Apps, organizations and pools, as JSON Schema. They bound what is sent; what
 * it means is judged by the rules of the configuration file (config/), so that both say the same.
 */
type Schema = Readonly<Record<string, unknown>>;

const text = (description: string, maxLength = 2_048): Schema => ({ type: "string", maxLength, description });
const orNull = (schema: Schema): Schema => ({ anyOf: [schema, { type: "null" }] });
const textOrNull = orNull({ type: "string" });
const switchOrNull = orNull({ type: "boolean" });
const count: Schema = { anyOf: [{ type: "integer" }, { type: "string", maxLength: 20 }, { type: "null" }] };
const object = (properties: Record<string, Schema>, required = Object.keys(properties)): Schema => ({
  type: "object",
  properties,
  required,
});
const list = (items: Schema): Schema => ({ type: "array", items });
const time = orNull({ type: "string", description: "RFC 3339" });
const id = text("your own name for it: letters, digits, '.', '_', '-'", 128);

export const EntryPath = object({ id });
export const EntriesQuery = object(
  {
    limit: { type: "string", pattern: "^[1-9]\\d{0,3}$", description: "1 to 1000, default 100" },
    cursor: { type: "string", pattern: "^[A-Za-z0-9_-]{1,512}$" },
  },
  [],
);

export interface EntrySchemas {
  body: Schema;
  patch: Schema;
  view: Schema;
  answer: Schema;
}

function schemasOf(
  listKey: string,
  sent: Record<string, Schema>,
  needed: string[],
  shown: Record<string, Schema>,
): EntrySchemas {
  const source = { type: "string", enum: ["file", "api"], description: "file: read-only here" };
  const view = object({ id, source, ...shown, created_at: time, updated_at: time });
  return {
    body: object({ id, ...sent }, ["id", ...needed]),
    patch: object({ id, ...sent }, []),
    view,
    answer: object({ [listKey]: list(view), next_cursor: textOrNull }),
  };
}

const pace = orNull(object({ start: count, max: count }, []));

export const appSchemas = schemasOf(
  "github_apps",
  {
    api_url: orNull(text("https://api.github.com unless it is another GitHub")),
    app_id: count,
    client_id: orNull(text("in place of app_id, or beside it")),
    key: orNull(text("reference to the private key, as vault://secret/mig/github-app#private_key")),
    previous_key: orNull(text("reference to a second key, tried when GitHub refuses the first")),
    signer: orNull(text("vault-transit://MOUNT/KEY: a key that signs where it lies")),
    private_key: orNull(text("the PEM: kept encrypted in the database, never given out again", 16_384)),
    previous_private_key: orNull(text("the same of the second key", 16_384)),
    installation_id: count,
    pace,
  },
  [],
  {
    api_url: { type: "string" },
    app_id: { type: "string", description: "what JWTs are issued by: the client id, or the number" },
    key: textOrNull,
    previous_key: textOrNull,
    signer: textOrNull,
    installation_id: orNull({ type: "integer" }),
    pace,
  },
);

const github = text("https://github.com/ORG or https://github.com/OWNER/REPO");
export const orgSchemas = schemasOf(
  "orgs",
  { github, app: orNull(text("the GitHub App of its pools")) },
  ["github"],
  { github, app: textOrNull },
);

const labels: Schema = { type: "array", items: text("", 256), maxItems: 200 };
export const poolSchemas = schemasOf(
  "pools",
  {
    org_id: orNull(text("its organization; runner_url follows from it")),
    runner_url: orNull(text("where its runners register")),
    runner_group: {
      anyOf: [text("its name", 128), { type: "integer", description: "its number" }, { type: "null" }],
    },
    labels: orNull(labels),
    registration: orNull(text("jit or token")),
    reuse: switchOrNull,
    allow_public: switchOrNull,
    leftover: orNull(text("remove or report: runners of VMs that are over")),
    app: orNull(text("the GitHub App, where it is not the organization's")),
    runner: orNull({ type: "object", description: "{version, sha256, download_url}" }),
    join: orNull({
      type: "object",
      description:
        "machines that join without an enrolment token: {gcp: {projects, zones, service_accounts, max_age}, aws: {accounts, regions, images, roles, max_age}}",
    }),
  },
  [],
  {
    org_id: { type: "string" },
    runner_url: { type: "string" },
    runner_group: { type: "string" },
    labels,
    registration: { type: "string" },
    legacy_agents: { type: "boolean" },
    reuse: { type: "boolean" },
    allow_public: { type: "boolean" },
    leftover: { type: "string" },
    app: textOrNull,
    served_by: textOrNull,
    problem: textOrNull,
    runner: orNull({ type: "object" }),
    join: orNull({ type: "object" }),
  },
);

const checkLine = object({
  check: { type: "string" },
  about: textOrNull,
  ok: { type: "boolean" },
  required: { type: "boolean", description: "false: advice" },
  found: textOrNull,
  problem: textOrNull,
  remedy: textOrNull,
});
export const CheckAnswer = object({
  app: { type: "string" },
  ok: { type: "boolean" },
  checked_at: { type: "string" },
  checks: list(checkLine),
});
