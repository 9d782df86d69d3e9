// Makes packages/api-client/src/generated.ts from the controller's own OpenAPI document: one entry an operation, by its
// method and path. Only operations of operators, which answer JSON, bytes or a stream of events (what it brings is its
// `item`); agents have their own library. `--check` changes nothing and ends with 1 when the file is not what it would be.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { readOpenApi } from "./openapi.mjs";

const target = fileURLToPath(new URL("../packages/api-client/src/generated.ts", import.meta.url));

export function renderClient(document) {
  const lines = [];
  for (const [path, methods] of Object.entries(document.paths).sort())
    for (const [method, about] of Object.entries(methods).sort()) {
      if (!about.tags?.includes("operator")) continue;
      lines.push(`  "${method.toUpperCase()} ${path}": {`);
      for (const where of ["path", "query"]) {
        const found = (about.parameters ?? []).filter((one) => one.in === where);
        if (found.length === 0) continue;
        const isNeeded = found.some((one) => one.required);
        lines.push(`    ${where}${isNeeded ? "" : "?"}: {`);
        for (const { name, required, schema, description } of found)
          lines.push(
            ...comment(description, 6),
            `      ${key(name)}${required ? "" : "?"}: ${typeOf(schema, 6)};`,
          );
        lines.push("    };");
      }
      const body = about.requestBody?.content?.["application/json"]?.schema;
      if (body !== undefined)
        lines.push(`    body${about.requestBody.required ? "" : "?"}: ${typeOf(body, 4)};`);
      const answers = Object.entries(about.responses ?? {}).filter(([status]) => status.startsWith("2"));
      const types = answers.map(([, { content = {} }]) => {
        const schema = content["application/json"]?.schema;
        if (schema === undefined)
          return content["application/gzip"] === undefined ? "undefined" : "Uint8Array";
        return typeOf(schema, 4);
      });
      const items = answers.map(([, answer]) => answer.content?.["text/event-stream"]?.schema).find(Boolean);
      if (items !== undefined) lines.push(`    item: ${typeOf(items, 4)};`);
      lines.push(
        `    answer: ${types.length === 0 ? "undefined" : [...new Set(types)].join(" | ")};`,
        "  };",
      );
    }
  return `// Made by scripts/generate-api-client.mjs from the controller's OpenAPI document; not edited.
export interface Operations {
${lines.join("\n")}
}
`;
}

function typeOf(schema, indent) {
  if (schema === undefined || Object.keys(schema).length === 0) return "unknown";
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return [...new Set(choices.map((one) => typeOf(one, indent)))].join(" | ");
  if (schema.allOf !== undefined) return schema.allOf.map((one) => typeOf(one, indent)).join(" & ");
  switch (schema.type) {
    case "string":
      return "string";
    case "integer":
    case "number":
      return "number";
    case "boolean":
      return "boolean";
    case "null":
      return "null";
    case "array": {
      const item = typeOf(schema.items, indent);
      return /^[\w."]+$/.test(item) ? `${item}[]` : `Array<${item}>`;
    }
    case "object":
      return objectOf(schema, indent);
    default:
      return "unknown";
  }
}

function objectOf({ properties, required = [], additionalProperties, patternProperties }, indent) {
  const rest = additionalProperties ?? Object.values(patternProperties ?? {})[0];
  const entries = Object.entries(properties ?? {});
  if (entries.length === 0)
    return `Record<string, ${typeof rest === "object" ? typeOf(rest, indent) : "unknown"}>`;
  const space = " ".repeat(indent + 2);
  const lines = entries.flatMap(([name, schema]) => [
    ...comment(schema.description, indent + 2),
    `${space}${key(name)}${required.includes(name) ? "" : "?"}: ${typeOf(schema, indent + 2)};`,
  ]);
  return `{\n${lines.join("\n")}\n${" ".repeat(indent)}}`;
}

const key = (name) => (/^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name));
const comment = (text, indent) =>
  text ? [`${" ".repeat(indent)}/** ${text.replaceAll("*/", "* /")} */`] : [];

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const text = renderClient(await readOpenApi());
  if (!process.argv.includes("--check")) await writeFile(target, text);
  else if ((await readFile(target, "utf8").catch(() => "")) !== text) {
    console.error(`${target} is not what the controller says; run npm run generate`);
    process.exitCode = 1;
  }
}
