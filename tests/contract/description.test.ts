import { describe, expect, it } from "vitest";
import { readClientRoutes } from "./client-routes.ts";
import { jsonSchemaOf, readDescription, titles } from "./description.ts";

/** A check that cannot fail proves nothing: each kind of mistake once. */
describe("the checks against GitHub's description", () => {
  const description = readDescription("api.github.com");
  const find = (method: string, path: string) => {
    const found = description.find(method, path);
    if (found === undefined) throw new Error(`${method} ${path} is not described`);
    return found;
  };
  const runner = { id: 1, name: "vm", os: "linux", status: "online", busy: false, labels: [{ name: "x" }] };
  const listCheck = find("GET", "/orgs/acme/actions/runners").answers.get(200);

  it("every description is read, and each schema compiles", () => {
    for (const title of titles) expect(readDescription(title).operations.length).toBeGreaterThan(1);
  });

  it.each([
    ["a good one", { total_count: 1, runners: [runner] }, []],
    [
      "a field is missing",
      { total_count: 1, runners: [{ ...runner, os: undefined }] },
      [/required property 'os'/],
    ],
    ["a wrong type", { total_count: "1", runners: [runner] }, [/total_count must be integer/]],
    [
      "a field that GitHub does not have",
      { total_count: 1, runners: [{ ...runner, colour: 1 }] },
      [/colour/],
    ],
    [
      "a word outside its list",
      { total_count: 1, runners: [{ ...runner, labels: [{ name: "x", type: "own" }] }] },
      [/allowed values/],
    ],
    ["null where null is allowed", { total_count: 1, runners: [{ ...runner, version: null }] }, []],
    [
      "null where it is not",
      { total_count: 1, runners: [{ ...runner, name: null }] },
      [/name must be string/],
    ],
  ])("an answer: %s", (_name, body, wanted) => {
    const problems = listCheck?.(JSON.parse(JSON.stringify(body))) ?? ["there is no check"];
    if (wanted.length === 0) expect(problems).toEqual([]);
    for (const pattern of wanted) expect(problems.join("\n")).toMatch(pattern);
  });

  it("a request: unknown parameters, wrong numbers, bodies", () => {
    const list = find("GET", "/orgs/acme/actions/runners");
    expect(
      list.checkAddress("/orgs/acme/actions/runners", new URLSearchParams("per_page=100&name=x")),
    ).toEqual([]);
    expect(list.checkAddress("/orgs/acme/actions/runners", new URLSearchParams("size=1"))).toHaveLength(1);
    expect(list.checkAddress("/orgs/acme/actions/runners", new URLSearchParams("page=two"))).not.toEqual([]);
    expect(list.checkBody).toBeUndefined();
    const remove = find("DELETE", "/orgs/acme/actions/runners/seven");
    expect(remove.checkAddress("/orgs/acme/actions/runners/seven", new URLSearchParams())).not.toEqual([]);
    const { checkBody } = find("POST", "/orgs/acme/actions/runners/generate-jitconfig");
    expect(checkBody?.({ name: "x", runner_group_id: 1, labels: ["a"] })).toEqual([]);
    expect(checkBody?.({ name: "x", runner_group_id: "1", labels: ["a"] })).not.toEqual([]);
    expect(checkBody?.({ name: "x", runner_group_id: 1, labels: [] })).not.toEqual([]);
    expect(checkBody?.({ name: "x", runner_group_id: 1, labels: ["a"], group: "g" })).not.toEqual([]);
  });

  it("a refusal says message, documentation_url and its status as a string", () => {
    const { checkRefusal } = description;
    const body = { message: "Not Found", documentation_url: "https://docs.github.com/rest", status: "404" };
    expect(checkRefusal(body)).toEqual([]);
    expect(checkRefusal({ ...body, status: 404 })).not.toEqual([]);
    expect(checkRefusal({ message: "Not Found" })).not.toEqual([]);
  });

  it("a nullable word may be null and stays a word", () => {
    expect(jsonSchemaOf({ type: "string", enum: ["a"], nullable: true }, true)).toEqual({
      anyOf: [{ type: "string", enum: ["a"] }, { type: "null" }],
    });
  });

  it("the controller's routes are found in its source", () => {
    const { routes } = readClientRoutes(description);
    expect([...routes]).toContain("POST /app/installations/{installation_id}/access_tokens");
    expect([...routes]).toContain("DELETE /repos/{owner}/{repo}/actions/runners/{runner_id}");
    expect([...routes]).not.toContain("GET /repos/{owner}/{repo}/actions/runner-groups");
  });
});
