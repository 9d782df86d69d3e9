import { MigError } from "@mig/lifecycle";
import type { FastifyInstance, RouteOptions } from "fastify";

/** A path that exists under another method is 405 with the methods that it has; anything else is 404. */
export function answerUnknownPaths(app: FastifyInstance): void {
  const known = new Map<string, { path: RegExp; methods: Set<string> }>();
  app.addHook("onRoute", ({ url, method }: RouteOptions) => {
    const path = new RegExp(`^${url.replaceAll(".", "\\.").replaceAll(/:\w+/g, "[^/]+")}$`);
    const entry = known.get(url) ?? { path, methods: new Set() };
    for (const one of [method].flat()) entry.methods.add(one);
    known.set(url, entry);
  });
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split("?", 1)[0] ?? "";
    const methods = [...known.values()].find((entry) => entry.path.test(path))?.methods;
    if (methods === undefined) throw new MigError("not_found", "there is nothing at this path");
    const allowed = [...methods].sort().join(", ");
    void reply.header("allow", allowed);
    throw new MigError("method_not_allowed", `this path takes ${allowed}`);
  });
}
