import { createHash } from "node:crypto";
import { anchorOf, type OpenApi, type Place, placesOf } from "./document.ts";
import { Html, html } from "./html.ts";
import { operationOf } from "./operation.ts";

/** The API reference that a controller serves of itself: one page, made from its OpenAPI document, that loads nothing. */
const style = `:root{color-scheme:light dark;--line:#8884;--soft:#666;--mark:#0757b8}
@media(prefers-color-scheme:dark){:root{--soft:#aaa;--mark:#7db7ff}}
*{box-sizing:border-box}
body{font:1rem/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem;overflow-wrap:anywhere}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}
pre{white-space:pre-wrap;border:1px solid var(--line);border-radius:.4rem;padding:.6rem}
a{color:var(--mark)}h2{margin-top:3rem;border-bottom:1px solid var(--line)}
h3{margin:2.5rem 0 .5rem;font-size:1.05rem}h3 a{color:inherit;text-decoration:none}h4{margin:1rem 0 .25rem}
.method{color:var(--mark)}.type,.who,.pattern{color:var(--soft)}
.operation:target{outline:2px solid var(--mark);outline-offset:.5rem}
ul{padding-left:1.1rem}nav ul{list-style:none;padding:0}nav li{padding:.1rem 0}
summary{cursor:pointer}:focus-visible{outline:2px solid var(--mark)}`;

const styleHash = createHash("sha256").update(style).digest("base64");

/** Nothing runs, nothing is fetched, nobody frames it: only the style that is written in it counts. */
export const pageHeaders: Readonly<Record<string, string>> = {
  "content-security-policy": `default-src 'none'; style-src 'sha256-${styleHash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
};

const tagTitles: Readonly<Record<string, string>> = {
  operator: "For operators",
  agent: "For agents",
  join: "Joining",
  health: "Health",
};

export function renderPage(document: OpenApi): string {
  const places = placesOf(document);
  const tags = [...new Set([...Object.keys(tagTitles), ...places.map(tagOf)])];
  const groups = tags
    .map((tag) => ({ tag, title: tagTitles[tag] ?? tag, found: places.filter((one) => tagOf(one) === tag) }))
    .filter(({ found }) => found.length > 0);
  const { title, version } = document.info;
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} API</title>
<style>${new Html(style)}</style>
</head>
<body>
<header><h1>${title} API</h1>
<p>Version ${version}. For programs: <a href="/api/v1/openapi.json">the OpenAPI 3.1 document</a>.</p></header>
<nav aria-label="Operations">${groups.map(
    ({ title: name, found }) =>
      html`<h2>${name}</h2><ul>${found.map(
        (one) =>
          html`<li><a href="#${anchorOf(one)}"><b class="method">${one.method}</b> <code>${one.path}</code></a> <span class="type">${one.about.summary}</span></li>`,
      )}</ul>`,
  )}</nav>
<main>
${common}
${groups.map(({ tag, title: name, found }) => html`<h2 id="tag-${tag}">${name}</h2>${found.map(operationOf)}`)}
</main>
</body>
</html>
`;
  return page.text;
}

function tagOf({ about }: Place): string {
  return about.tags?.[0] ?? "other";
}

const common = html`<h2 id="auth">Who calls</h2>
<p>Operators send an API key, agents their token: <code>authorization: Bearer TOKEN</code>. Each operation says who may.
Keys of some organizations see only these; what is another's does not exist for them.</p>
<h2 id="errors">What is refused</h2>
<p>Every refusal says why and what to do: <code>{"error": {"code", "message", "category", "request_id", "retry_after_ms"?}}</code>.</p>
<ul>
<li><b>400</b> malformed</li><li><b>401</b> nobody is known by this token</li><li><b>403</b> not for this role</li>
<li><b>404</b> not there, or not yours</li><li><b>405</b> the path takes other methods</li><li><b>409</b> it contradicts what is</li>
<li><b>413</b> too large</li><li><b>422</b> understood and refused</li>
<li><b>429</b>, <b>503</b> later, after <code>retry-after</code> seconds</li>
</ul>
<h2 id="lists">Lists and writes</h2>
<p>Lists come in pages: <code>limit</code>, at most 1000, and <code>cursor</code> from <code>next_cursor</code> of the page before. An order takes an
<code>idempotency-key</code>: the same key again within a day is answered with the first one's outcome, and nothing happens twice.</p>`;
