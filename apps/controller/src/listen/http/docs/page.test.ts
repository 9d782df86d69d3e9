import { expect, it } from "vitest";
import { anchorOf, placesOf, type Schema } from "./document.ts";
import { html } from "./html.ts";
import { renderPage } from "./page.ts";

const hostile = `</style><script>alert("1")</script><img src=x onerror='x'>&amp;`;

it("whatever the document holds, none of it becomes markup", () => {
  const schema = {
    type: "object",
    required: [hostile],
    description: hostile,
    properties: { [hostile]: { type: hostile, description: hostile, pattern: hostile, enum: [hostile] } },
  };
  const content = { "application/json": { schema } };
  const page = renderPage({
    info: { title: hostile, version: hostile },
    paths: {
      [`/${hostile}`]: {
        [hostile]: {
          ...{ tags: [hostile], summary: hostile, description: hostile, "x-mig-action": hostile },
          parameters: [{ name: hostile, in: hostile, description: hostile, schema: { pattern: hostile } }],
          requestBody: { content },
          responses: { [hostile]: { content } },
        },
      },
    },
  });
  expect(page.match(/<(script|img)/g)).toBeNull();
  expect(page).toContain("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;");
  // The one style is ours, and ends where it should.
  expect(page.match(/<\/?style>/g)).toEqual(["<style>", "</style>"]);
  expect(page).not.toMatch(/\son\w+\s*=\s*["']/);
});

it("templates escape what is put into them, and nothing twice", () => {
  const inner = html`<b>${"<&\"'>"}</b>`;
  expect(html`${inner}${[inner]}${undefined}${1}`.text).toBe(
    `${"<b>&lt;&amp;&quot;&#39;&gt;</b>".repeat(2)}1`,
  );
});

it("a schema that holds itself ends", () => {
  const properties: Record<string, Schema> = {};
  const loop: Schema = { type: "object", properties, required: ["again"] };
  properties["again"] = loop;
  const content = { "application/json": { schema: loop } };
  const document = {
    info: { title: "t", version: "1" },
    paths: { "/a": { post: { requestBody: { content }, responses: { 200: { content } } } } },
  };
  expect(renderPage(document)).toContain("again");
  expect(placesOf(document).map(anchorOf)).toEqual(["post-a"]);
});
