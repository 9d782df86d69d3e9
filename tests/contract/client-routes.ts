import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Description } from "./description.ts";

const src = fileURLToPath(new URL("../../apps/controller/src", import.meta.url));
const bases = ["/orgs/{org}", "/repos/{owner}/{repo}"];

export interface ClientRoutes {
  /** As in GitHub's description: "DELETE /orgs/{org}/actions/runners/{runner_id}". */
  readonly routes: ReadonlySet<string>;
  /** Source that this reading would miss a route in. */
  readonly unclear: readonly string[];
}

/**
 * Every route that the controller can call, read from its source, where each stands whole in a literal: "GET /app",
 * "GET /actions/runners" (of an account) or `GET ${account.base}/installation`. So a new call cannot be forgotten here.
 */
export function readClientRoutes(description: Description): ClientRoutes {
  const routes = new Set<string>();
  const unclear: string[] = [];
  for (const path of readdirSync(src, { recursive: true, encoding: "utf8" }).filter(isProgram)) {
    const code = withoutComments(readFileSync(join(src, path), "utf8"));
    const literals = /(["'`])(GET|POST|PUT|PATCH|DELETE) (\$\{account\.base\})?(\/[^"'`]*)\1/g;
    for (const [, , method = "", base, route = ""] of code.matchAll(literals)) {
      const isWhole = base === undefined && /^\/(?:app|orgs|repos|rate_limit|meta|versions)\b/.test(route);
      if (base === undefined && !isWhole && !route.startsWith("/actions/")) continue; // an API of somebody else
      const wanted = isWhole ? [`${method} ${route}`] : bases.map((one) => `${method} ${one}${route}`);
      // Repositories have no runner groups, for example; one of the two there must be.
      const known = wanted.filter((one) =>
        description.operations.some((op) => `${op.method} ${op.template}` === one),
      );
      if (known.length === 0) unclear.push(`${path}: ${method} ${route} is not in GitHub's description`);
      for (const one of known) routes.add(one);
    }
    const rest = code.replaceAll(literals, "");
    for (const [found] of rest.matchAll(/["'`](?:\/(?:app|orgs|repos)\/|\/actions\/)[^"'`]*["'`]/g))
      if (!bases.includes(found.slice(1, -1))) unclear.push(`${path}: ${found} is a path without its method`);
    if (/@octokit\//.test(code) && path !== join("github", "wire.ts"))
      unclear.push(`${path}: only github/wire.ts talks to GitHub`);
    if (path.startsWith("github") && /\bfetch\(/.test(code) && path !== join("github", "bounded-fetch.ts"))
      unclear.push(`${path}: only github/bounded-fetch.ts opens connections to GitHub`);
  }
  return { routes, unclear };
}

function isProgram(path: string): boolean {
  return path.endsWith(".ts") && !path.endsWith(".test.ts");
}

function withoutComments(code: string): string {
  return code.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|[\s;{(])\/\/.*$/gm, "$1");
}
