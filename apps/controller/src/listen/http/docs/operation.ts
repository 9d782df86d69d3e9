import { type Action, accessTable } from "@mig/lifecycle";
import { anchorOf, type Operation, type Parameter, type Place } from "./document.ts";
import { type Html, html } from "./html.ts";
import { fieldsOf, note, sampleOf, typeOf } from "./schema.ts";

const parties: Readonly<Record<string, string>> = {
  vm: "the VM's own agent",
  agents: "agents with the shared token",
  viewer: "viewer",
  operator: "operator",
  admin: "admin",
};

/** One operation: who may, what it takes, what it answers, and how it is called. */
export function operationOf(place: Place): Html {
  const { method, path, about } = place;
  const anchor = anchorOf(place);
  return html`<section class="operation" id="${anchor}">
<h3><a href="#${anchor}"><b class="method">${method}</b> <code>${path}</code></a></h3>
${about.summary === undefined ? undefined : html`<p>${about.summary}</p>`}${
  about.description === undefined ? undefined : html`<p>${about.description}</p>`
}<p class="who">${whoMay(about)}</p>
${parametersOf(about)}${bodyOf(about)}${answersOf(about)}<h4>Example</h4>
<pre><code>${exampleOf(place)}</code></pre>
</section>
`;
}

function whoMay({ "x-mig-action": action }: Operation): string {
  if (action === undefined || !Object.hasOwn(accessTable, action)) return "Open to everybody.";
  const reaches = Object.entries(accessTable[action as Action]).filter(([, reach]) => reach !== "no");
  const names = reaches.map(
    ([party, reach]) => `${parties[party] ?? party}${reach === "all" ? " of all organizations" : ""}`,
  );
  return `For ${names.join(", ")} (${action}).`;
}

function parametersOf({ parameters = [] }: Operation): Html | undefined {
  if (parameters.length === 0) return undefined;
  const line = (one: Parameter): Html =>
    html`<li><code class="name">${one.name}</code> <span class="type">${one.in}, ${typeOf(one.schema)}${
      one.required === true ? "" : ", optional"
    }</span>${note({
      ...(one.description === undefined ? {} : { description: one.description }),
      ...(one.schema?.pattern === undefined ? {} : { pattern: one.schema.pattern }),
    })}</li>`;
  return html`<h4>Parameters</h4><ul class="fields">${parameters.map(line)}</ul>`;
}

function bodyOf({ requestBody }: Operation): Html | undefined {
  const schema = requestBody?.content?.["application/json"]?.schema;
  if (schema === undefined) return undefined;
  return html`<h4>Body${requestBody?.required === true ? "" : ", optional"}</h4>${fieldsOf(schema)}`;
}

function answersOf({ responses = {} }: Operation): Html | undefined {
  const entries = Object.entries(responses);
  if (entries.length === 0) return undefined;
  return html`<h4>Answers</h4>${entries.map(([status, { content }]) => {
    // A refusal is the same everywhere and told once.
    if (/^[45]XX$/i.test(status))
      return html`<p><b>${status}</b> <a href="#errors">what was refused, and why</a></p>`;
    const schema = content?.["application/json"]?.schema;
    if (schema === undefined) return html`<p><b>${status}</b></p>`;
    return html`<details><summary><b>${status}</b> <span class="type">${typeOf(schema)}</span></summary>${fieldsOf(schema)}</details>`;
  })}`;
}

/** As it is typed into a shell; $VM_ID and the like are the reader's. */
function exampleOf({ method, path, about }: Place): string {
  const address = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => `$${name.toUpperCase()}`);
  const schema = about.requestBody?.content?.["application/json"]?.schema;
  const lines = [
    `curl -sS${method === "GET" ? "" : method === "HEAD" ? " --head" : ` -X ${method}`} "$MIG_URL${address}"`,
    ...(about["x-mig-action"] === undefined ? [] : [`-H "authorization: Bearer $MIG_API_KEY"`]),
    ...(schema === undefined
      ? []
      : [
          "-H 'content-type: application/json'",
          `-d '${JSON.stringify(sampleOf(schema)).replaceAll("'", "'\\''")}'`,
        ]),
  ];
  return lines.join(" \\\n  ");
}
