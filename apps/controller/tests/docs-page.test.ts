import { createHash } from "node:crypto";
import { afterAll, beforeAll, expect, it } from "vitest";
import { anchorOf, type OpenApi, placesOf } from "../src/listen/http/docs/document.ts";
import { escapeHtml } from "../src/listen/http/docs/html.ts";
import { summaries } from "../src/listen/http/docs/summaries.ts";
import { startController, type TestController } from "./directory-lab.ts";

/** GET /docs of a whole controller: everything that its OpenAPI document has, for anybody, and nothing that runs. */
let mig: TestController;
let page: string;
let headers: Headers;
let document: OpenApi;
const stops: (() => Promise<void>)[] = [];
beforeAll(async () => {
  mig = await startController({ pools: [] }, { flags: ["--dev"], atEnd: (stop) => void stops.push(stop) });
  const answer = await fetch(`${mig.url}/docs`);
  expect(answer.status).toBe(200);
  headers = answer.headers;
  page = await answer.text();
  document = (await (await fetch(`${mig.url}/api/v1/openapi.json`)).json()) as OpenApi;
});
afterAll(async () => {
  for (const stop of stops) await stop();
});

it("has every operation, with an anchor of its own that the list leads to", () => {
  const places = placesOf(document);
  expect(places.length).toBeGreaterThan(50);
  const anchors = places.map(anchorOf);
  expect(new Set(anchors).size).toBe(anchors.length);
  for (const [n, { method, path, about }] of places.entries()) {
    const section = new RegExp(`<section class="operation" id="${anchors[n]}">(.*?)</section>`, "s").exec(
      page,
    );
    const text = section?.[1] ?? "";
    expect(page).toContain(`<li><a href="#${anchors[n]}">`);
    for (const one of [method, path, ...(about.parameters ?? []).map(({ name }) => name)])
      expect(text).toContain(escapeHtml(one));
    const body = about.requestBody?.content?.["application/json"]?.schema;
    for (const key of Object.keys(body?.properties ?? {})) expect(text).toContain(`>${key}</code>`);
    for (const status of Object.keys(about.responses ?? {})) expect(text).toContain(`<b>${status}</b>`);
    expect(text).toContain(about["x-mig-action"] === undefined ? "Open to everybody" : about["x-mig-action"]);
    expect(text).toContain("curl -sS");
  }
});

it("every sentence belongs to an operation of a controller that has everything, and every operation has one", () => {
  const found = new Set(placesOf(document).map(({ method, path }) => `${method} ${path}`));
  expect(Object.keys(summaries).filter((name) => !found.has(name))).toEqual([]);
  const bare = [...found].filter((name) => !name.startsWith("HEAD ") && summaries[name] === undefined);
  expect(bare).toEqual([]);
  expect(page).toContain(escapeHtml("Takes a command back that no VM has yet."));
});

it("loads nothing, runs nothing, and its policy lets through its own style only", () => {
  const [, style = ""] = /<style>(.*?)<\/style>/s.exec(page) ?? [];
  const hash = createHash("sha256").update(style).digest("base64");
  expect(headers.get("content-security-policy")).toBe(
    `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  );
  expect(headers.get("content-type")).toBe("text/html; charset=utf-8");
  for (const [name, value] of [
    ["x-content-type-options", "nosniff"],
    ["cache-control", "no-store"],
    ["referrer-policy", "no-referrer"],
  ] as const)
    expect(headers.get(name)).toBe(value);
  for (const wrong of [
    /<script/,
    /\ssrc=/,
    /\sstyle=/,
    /<link/,
    /(?:href|url)\s*[=(]\s*["']?(?:https?:)?\/\//,
  ])
    expect(page).not.toMatch(wrong);
  expect(style).toContain("prefers-color-scheme:dark");
});

it("the bare address leads to it; other methods are told what it takes", async () => {
  const bare = await fetch(`${mig.url}/`, { redirect: "manual" });
  expect([bare.status, bare.headers.get("location")]).toEqual([302, "/docs"]);
  expect((await fetch(`${mig.url}/docs`, { method: "POST" })).status).toBe(405);
});
