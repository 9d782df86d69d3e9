import { readFileSync } from "node:fs";
import { Ajv, type ValidateFunction } from "ajv";
import formatsModule from "ajv-formats";

/**
 * GitHub's own OpenAPI description, of which `github-openapi.json` holds the routes that matter here
 * (scripts/slice-openapi.mjs), turned into checks of requests and answers.
 */
export interface Operation {
  readonly method: string;
  /** "/orgs/{org}/actions/runners/{runner_id}" */
  readonly template: string;
  readonly isForApps: boolean;
  /** Problems with the path's parameters and the query. */
  checkAddress(path: string, query: URLSearchParams): string[];
  /** Undefined: the route takes no body. */
  readonly checkBody: Check | undefined;
  /** By status; null when the answer has no body. */
  readonly answers: ReadonlyMap<number, Check | null>;
}

export type Check = (value: unknown) => string[];

export interface Description {
  readonly title: string;
  readonly operations: readonly Operation[];
  find(method: string, path: string): Operation | undefined;
  /** What every refusal looks like, also those that a route does not describe (runner-contract §8.6). */
  readonly checkRefusal: Check;
}

type Json = { readonly [key: string]: unknown };
const slice = JSON.parse(readFileSync(new URL("github-openapi.json", import.meta.url), "utf8")) as {
  readonly source: { readonly version: string };
  readonly descriptions: Readonly<Record<string, Json>>;
};
export const titles = Object.keys(slice.descriptions);

export function readDescription(title: string): Description {
  const whole = mend(structuredClone(slice.descriptions[title] ?? {}));
  const addFormats = formatsModule.default;
  const openAjv = (isClosed: boolean): Ajv => {
    const ajv = new Ajv({ allErrors: true, strict: false, coerceTypes: false });
    addFormats(ajv);
    ajv.addSchema({ $id: "github", ...(jsonSchemaOf(whole, isClosed) as object) });
    return ajv;
  };
  // What we send, and what the stand-in makes up, has no field that GitHub does not name. A refusal may.
  const closed = openAjv(true);
  const open = openAjv(false);
  const checkOf = (ajv: Ajv, schema: unknown): Check => {
    const validate: ValidateFunction = ajv.compile(jsonSchemaOf(schema, ajv === closed) as object);
    return (value) =>
      validate(value)
        ? []
        : (validate.errors ?? []).map(
            ({ instancePath, message, params }) =>
              `${instancePath || "the body"} ${message} ${JSON.stringify(params)}`,
          );
  };
  const deref = (node: Json): Json => {
    const ref = node["$ref"];
    if (typeof ref !== "string") return node;
    return ref
      .split("/")
      .slice(1)
      .reduce((at, key) => at[key] as Json, whole);
  };

  const operations = Object.entries(whole["paths"] as Record<string, Record<string, Json>>).flatMap(
    ([template, methods]) =>
      Object.entries(methods).map(([method, operation]): Operation => {
        const parameters = ((operation["parameters"] ?? []) as Json[]).map(deref);
        const checks = new Map(
          parameters.map((parameter) => [
            `${parameter["in"]} ${parameter["name"]}`,
            { check: checkOf(closed, parameter["schema"]), type: (parameter["schema"] as Json)["type"] },
          ]),
        );
        const checkOne = (where: string, name: string, text: string): string[] => {
          const found = checks.get(`${where} ${name}`);
          if (!found) return [`the ${where} parameter ${name} is not described`];
          const isNumber = found.type === "integer" && /^-?\d+$/.test(text);
          return found.check(isNumber ? Number(text) : text).map((problem) => `${where} ${name}: ${problem}`);
        };
        const content = (node: unknown): Json | undefined => {
          const byType = (node as Json | undefined)?.["content"] as Record<string, Json> | undefined;
          return byType?.["application/json"]?.["schema"] as Json | undefined;
        };
        const bodySchema = content(operation["requestBody"]);
        return {
          method: method.toUpperCase(),
          template,
          isForApps:
            (operation["x-github"] as Json | undefined)?.["enabledForGitHubApps"] === true ||
            // With the App's own JWT; the mark is about installation tokens.
            String(operation["operationId"]).startsWith("apps/"),
          checkAddress(path, query) {
            const values = patternOf(template).exec(path)?.groups ?? {};
            return [
              ...Object.entries(values).flatMap(([name, text]) =>
                checkOne("path", name, decodeURIComponent(text)),
              ),
              ...[...query].flatMap(([name, text]) => checkOne("query", name, text)),
            ];
          },
          checkBody: bodySchema && checkOf(closed, bodySchema),
          answers: new Map(
            Object.entries(operation["responses"] as Record<string, Json>).map(([status, answer]) => {
              const schema = content(deref(answer));
              return [Number(status), schema ? checkOf(Number(status) < 300 ? closed : open, schema) : null];
            }),
          ),
        };
      }),
  );
  return {
    title,
    operations,
    find: (method, path) =>
      operations.find((one) => one.method === method && patternOf(one.template).test(path)),
    checkRefusal: checkOf(open, {
      allOf: [
        { $ref: "#/components/schemas/basic-error" },
        { type: "object", required: ["message", "documentation_url", "status"] },
      ],
    }),
  };
}

function patternOf(template: string): RegExp {
  return new RegExp(`^${template.replace(/\{(\w+)\}/g, "(?<$1>[^/]+)")}$`);
}

/** OpenAPI 3.0 says `nullable` where JSON Schema says null. */
export function jsonSchemaOf(node: unknown, isClosed: boolean): unknown {
  if (Array.isArray(node)) return node.map((item) => jsonSchemaOf(item, isClosed));
  if (typeof node !== "object" || node === null) return node;
  const { nullable, ...rest } = node as Json;
  const isPart = "allOf" in rest;
  const schema: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(rest)) {
    if (key === "$ref") schema[key] = `github${String(value)}`;
    else if (key === "properties") {
      const properties = Object.entries(value as Json);
      schema[key] = Object.fromEntries(properties.map(([name, one]) => [name, jsonSchemaOf(one, isClosed)]));
    } else if (key === "enum" || key === "required") schema[key] = value;
    // Parts of an allOf know only their own fields.
    else schema[key] = jsonSchemaOf(value, isClosed && !isPart);
  }
  if (isClosed && "properties" in schema && !("additionalProperties" in schema))
    schema["additionalProperties"] = false;
  return nullable === true ? { anyOf: [schema, { type: "null" }] } : schema;
}

/**
 * Where the description contradicts GitHub itself. Each is looked for, so that none outlives its reason: an
 * installation's account is a user or an enterprise, and cannot be both at once, as the list of installations has it.
 */
function mend(whole: Json): Json {
  const path = [
    "paths",
    "/app/installations",
    "get",
    "responses",
    "200",
    "content",
    "application/json",
    "schema",
  ];
  const list = path.reduce<Json | undefined>((at, key) => at?.[key] as Json | undefined, whole);
  if (list === undefined) return whole;
  const account = (((list["items"] as Json)["properties"] as Json)?.["account"] ?? {}) as Record<
    string,
    unknown
  >;
  if (!Array.isArray(account["allOf"]))
    throw new Error(
      "GitHub has mended its description of GET /app/installations; take the mending out here too",
    );
  account["anyOf"] = account["allOf"];
  delete account["allOf"];
  return whole;
}
