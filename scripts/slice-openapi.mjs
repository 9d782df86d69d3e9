// `node scripts/slice-openapi.mjs [version]`: writes tests/contract/github-openapi.json, the part of GitHub's own OpenAPI
// description that MIG depends on. The package that holds it is 385 MB unpacked, so it is fetched here, cut, and never
// becomes a dependency. Run by hand when GitHub publishes another version; `npm test` reads only what it wrote.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const name = "@octokit/openapi";
const version = process.argv[2] ?? "23.0.2";
const root = fileURLToPath(new URL("..", import.meta.url));
const target = join(root, "tests/contract/github-openapi.json");
const biome = join(root, "node_modules/.bin/biome");
const bytesMax = 1_500_000;

const ofAccount = [
  "GET /installation",
  "POST /actions/runners/generate-jitconfig",
  "POST /actions/runners/registration-token",
  "POST /actions/runners/remove-token",
  "GET /actions/runners",
  "GET /actions/runners/downloads",
  "GET /actions/runners/{runner_id}",
  "DELETE /actions/runners/{runner_id}",
  "GET /actions/runners/{runner_id}/labels",
  "POST /actions/runners/{runner_id}/labels",
  "PUT /actions/runners/{runner_id}/labels",
  "DELETE /actions/runners/{runner_id}/labels",
  "DELETE /actions/runners/{runner_id}/labels/{name}",
];
const below = (base, routes) => routes.map((route) => route.replace(" ", ` ${base}`));
/** What MIG calls or may soon call. Whoever adds a call adds its route here and runs this again. */
const routes = [
  "GET /app",
  "GET /app/installations",
  "GET /app/installations/{installation_id}",
  "POST /app/installations/{installation_id}/access_tokens",
  "GET /app/hook/config",
  "PATCH /app/hook/config",
  "GET /app/hook/deliveries",
  "GET /app/hook/deliveries/{delivery_id}",
  "POST /app/hook/deliveries/{delivery_id}/attempts",
  "GET /meta",
  "GET /rate_limit",
  "GET /versions",
  ...below("/orgs/{org}", ofAccount),
  ...below("/repos/{owner}/{repo}", ofAccount),
  "GET /orgs/{org}/actions/runner-groups",
  "GET /orgs/{org}/actions/runner-groups/{runner_group_id}",
  "GET /orgs/{org}/actions/runner-groups/{runner_group_id}/runners",
  "GET /orgs/{org}/actions/runner-groups/{runner_group_id}/repositories",
  "GET /repos/{owner}/{repo}/actions/jobs/{job_id}",
  "GET /repos/{owner}/{repo}/actions/runs/{run_id}/jobs",
  "GET /repos/{owner}/{repo}/actions/runs/{run_id}/attempts/{attempt_number}/jobs",
  "POST /repos/{owner}/{repo}/actions/runs/{run_id}/cancel",
  "POST /repos/{owner}/{repo}/actions/runs/{run_id}/force-cancel",
];
/** Only GitHub Enterprise Cloud describes when a version of the runner stops working (runner-contract §8.3). */
const cloudRoutes = [
  "GET /orgs/{org}/actions/runners/deprecations/{version}",
  "GET /repos/{owner}/{repo}/actions/runners/deprecations/{version}",
];
/** Descriptions and examples are most of the bytes. */
const proseKeys = new Set([
  "description",
  "summary",
  "example",
  "examples",
  "tags",
  "externalDocs",
  "x-octokit",
]);
/** The shape of refusals that a route does not describe. */
const alsoSchemas = ["basic-error", "validation-error", "validation-error-simple"];

const folder = unpack();
const files = execFileSync("tar", ["tzf", join(folder, "package.tgz")], { encoding: "utf8" });
const latestServer = [...files.matchAll(/ghes-(\d+)\.(\d+)\.json/g)]
  .sort((a, b) => a[1] - b[1] || a[2] - b[2])
  .at(-1)[0]
  .replace(".json", "");
const manifest = JSON.parse(extract("package/package.json"));
const descriptions = {
  "api.github.com": slice("api.github.com", routes),
  [latestServer]: slice(latestServer, routes),
  ghec: slice("ghec", cloudRoutes),
};
const text = `${JSON.stringify({
  source: {
    package: name,
    version: manifest.version,
    from: "https://github.com/github/rest-api-description",
    sliced: new Date().toISOString().slice(0, 10),
    by: "scripts/slice-openapi.mjs",
    license: extract("package/LICENSE").trim().replace(/\s+/g, " "),
  },
  descriptions,
})}\n`;
if (text.length > bytesMax)
  throw new Error(`the slice has ${text.length} bytes, more than ${bytesMax}: cut fewer routes`);
mkdirSync(join(target, ".."), { recursive: true });
writeFileSync(target, text);
// As the repository's formatter wants it, so that two versions can be compared line by line.
execFileSync(biome, ["format", "--write", "tests/contract/github-openapi.json"], { cwd: root });
for (const [title, { paths, components }] of Object.entries(descriptions)) {
  const count = Object.values(paths).flatMap((path) => Object.keys(path)).length;
  console.log(`${title}: ${count} routes, ${Object.keys(components.schemas ?? {}).length} schemas`);
}
console.log(
  `tests/contract/github-openapi.json: ${statSync(target).size} bytes from ${name} ${manifest.version}`,
);

/** The package's tarball, kept in the temporary directory for the next time. */
function unpack() {
  const cache = join(tmpdir(), `mig-openapi-${version}`);
  const tarball = join(cache, "package.tgz");
  if (existsSync(tarball)) return cache;
  mkdirSync(cache, { recursive: true });
  console.log(`fetching ${name} ${version}`);
  const args = ["pack", `${name}@${version}`, "--silent", "--pack-destination", cache];
  const file = execFileSync("npm", args, { encoding: "utf8", cwd: cache }).trim().split("\n").at(-1);
  renameSync(join(cache, file), tarball);
  return cache;
}

function extract(path) {
  const args = ["xzOf", join(folder, "package.tgz"), path];
  return execFileSync("tar", args, { encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
}

/** An OpenAPI document with these routes and the components that they lead to. */
function slice(title, wanted) {
  const whole = JSON.parse(extract(`package/generated/${title}.json`));
  const paths = {};
  for (const route of wanted) {
    const [method, path] = route.split(" ");
    const operation = whole.paths[path]?.[method.toLowerCase()];
    if (operation === undefined) console.log(`${title} has no ${route}`);
    else paths[path] = { ...paths[path], [method.toLowerCase()]: withoutProse(operation) };
  }
  const components = {};
  const refs = [...refsIn(paths), ...alsoSchemas.map((schema) => `#/components/schemas/${schema}`)];
  while (refs.length > 0) {
    const [, , kind, key] = refs.pop().split("/");
    if (components[kind]?.[key] !== undefined) continue;
    const component = whole.components[kind]?.[key];
    if (component === undefined) throw new Error(`${title} has no component ${kind}/${key}`);
    const kept = withoutProse(component);
    components[kind] = { ...components[kind], [key]: kept };
    refs.push(...refsIn(kept));
  }
  for (const kind of Object.keys(components)) components[kind] = sorted(components[kind]);
  return {
    openapi: whole.openapi,
    info: { title, version: whole.info.version },
    paths: sorted(paths),
    components,
  };
}

/** Nothing is checked against prose. */
function withoutProse(node, isMapOfNames = false) {
  if (Array.isArray(node)) return node.map((item) => withoutProse(item));
  if (typeof node !== "object" || node === null) return node;
  const kept = Object.entries(node).filter(([key]) => isMapOfNames || !proseKeys.has(key));
  // Below `properties` the keys are names of GitHub's fields, one of which is "description".
  return Object.fromEntries(
    kept.map(([key, value]) => [key, withoutProse(value, !isMapOfNames && key === "properties")]),
  );
}

function refsIn(node) {
  return [...JSON.stringify(node).matchAll(/"\$ref":"(#\/[^"]+)"/g)].map((match) => match[1]);
}

function sorted(map) {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
}
