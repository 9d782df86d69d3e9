import type { Schema } from "./document.ts";
import { type Html, html } from "./html.ts";

/** Deeper than any of ours; what refers to itself ends here. */
const depthMax = 8;

/** "string", "integer 1–1000", "a | b", "array of string". */
export function typeOf(schema: Schema = {}, depth = 0): string {
  if (depth > depthMax) return "…";
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return [...new Set(choices.map((one) => typeOf(one, depth + 1)))].join(" | ");
  if (schema.allOf !== undefined) return schema.allOf.map((one) => typeOf(one, depth + 1)).join(" & ");
  if (schema.type === "array") return `array of ${typeOf(schema.items, depth + 1)}`;
  return `${schema.type ?? "anything"}${boundsOf(schema)}`;
}

function boundsOf({ minimum, maximum, minLength, maxLength }: Schema): string {
  const range = (low: number | undefined, high: number | undefined): string =>
    high === undefined ? `at least ${low}` : low === undefined ? `at most ${high}` : `${low} to ${high}`;
  if ((minimum ?? maximum) !== undefined) return `, ${range(minimum, maximum)}`;
  return (minLength ?? maxLength) === undefined ? "" : `, ${range(minLength, maxLength)} characters`;
}

/** The keys of an object, and those of the objects in it. */
export function fieldsOf(schema: Schema = {}, depth = 0): Html {
  const object = objectIn(schema);
  const entries = Object.entries(object?.properties ?? {});
  if (object === undefined || entries.length === 0 || depth > depthMax)
    return depth === 0 ? html`<p><code>${typeOf(schema)}</code> ${schema.description}</p>` : html``;
  const needed = new Set(object.required);
  return html`<ul class="fields">${entries.map(
    ([name, one]) =>
      html`<li><code class="name">${name}</code> <span class="type">${typeOf(one)}${
        needed.has(name) ? "" : ", optional"
      }</span>${note(one)}${fieldsOf(one, depth + 1)}</li>`,
  )}</ul>`;
}

/** What is meant, and which texts it takes. */
export function note({ description, pattern }: Schema): Html {
  return html`${description === undefined ? undefined : html` <span>${description}</span>`}${
    pattern === undefined ? undefined : html` <code class="pattern">${pattern}</code>`
  }`;
}

/** Through lists and choices to the object that has keys. */
function objectIn(schema: Schema, depth = 0): Schema | undefined {
  if (depth > depthMax) return undefined;
  if (schema.properties !== undefined) return schema;
  const inside = [schema.items, ...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])];
  for (const one of inside) {
    const found = one === undefined ? undefined : objectIn(one, depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The smallest value that has every key that must be there. */
export function sampleOf(schema: Schema = {}, depth = 0): unknown {
  if (depth > depthMax) return null;
  if (schema.const !== undefined) return schema.const;
  if (schema.enum !== undefined) return schema.enum[0];
  const [choice] = schema.anyOf ?? schema.oneOf ?? schema.allOf ?? [];
  if (choice !== undefined) return sampleOf(choice, depth + 1);
  switch (schema.type) {
    case "object":
      return Object.fromEntries(
        (schema.required ?? []).map((name) => [name, sampleOf(schema.properties?.[name], depth + 1)]),
      );
    case "array":
      return (schema.minItems ?? 0) === 0 ? [] : [sampleOf(schema.items, depth + 1)];
    case "integer":
    case "number":
      return schema.minimum ?? 1;
    case "boolean":
      return true;
    case "null":
      return null;
    default:
      return "…";
  }
}
