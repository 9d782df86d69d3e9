import type { FastifyInstance } from "fastify";
import type { OpenApi } from "./docs/document.ts";
import { pageHeaders, renderPage } from "./docs/page.ts";
import type { Routes } from "./routes.ts";

/**
 * The OpenAPI document, and the page that shows it. Each is written once, and the same bytes for everybody: nobody is
 * asked who they are for it, and it is large. Written for each request it was the cheapest way to keep the controller
 * busy and to fill its memory (bench/slow-clients.ts).
 */
export function describeApi(app: FastifyInstance, routes: Routes): void {
  let document: Buffer | undefined;
  routes.get("/api/v1/openapi.json", { schema: { hide: true } }, async (_, reply) => {
    document ??= Buffer.from(JSON.stringify(app.swagger()));
    return reply.type("application/json; charset=utf-8").send(document as never);
  });

  let page: Buffer | undefined;
  routes.get("/docs", { schema: { hide: true } }, async (_, reply) => {
    page ??= Buffer.from(renderPage(app.swagger() as OpenApi));
    return reply
      .headers(pageHeaders)
      .type("text/html; charset=utf-8")
      .send(page as never);
  });

  // Who opens the address in a browser shall see something.
  routes.get("/", { schema: { hide: true } }, async (_, reply) => reply.redirect("/docs"));
}
