import { PRODUCT_VERSION } from "@mig/protocol";
import { ErrorAnswer, HealthAnswer, ReadyQuery } from "@mig/protocol/schemas";
import { examine } from "../health.ts";
import type { HttpParts } from "./http-app.ts";
import type { Routes } from "./routes.ts";

/** Open to everybody: they name checks and states, nothing else (reliability-security §2.8). */
export function health(routes: Routes, { health }: HttpParts): void {
  const method = ["GET", "HEAD"];

  /** Seed 000: 200 while the program runs. What stands behind it is `/readyz`'s business. */
  routes.route({
    method,
    url: "/health",
    schema: { tags: ["health"], response: { 200: HealthAnswer } },
    handler: async () => ({ status: "ok", version: PRODUCT_VERSION }),
  });

  /** That the event loop turns is all that it says. */
  routes.route({
    method,
    url: "/livez",
    schema: { tags: ["health"], response: { 200: HealthAnswer } },
    handler: async () => ({ status: "ok" }),
  });

  routes.route({
    method,
    url: "/readyz",
    schema: {
      tags: ["health"],
      querystring: ReadyQuery,
      response: { 200: HealthAnswer, 503: HealthAnswer, "4xx": ErrorAnswer },
    },
    handler: async (request, reply) => {
      const { status, checks } = await examine(health);
      const isVerbose = request.query.verbose !== undefined && request.query.verbose !== "false";
      return reply
        .status(status === "unavailable" ? 503 : 200)
        .send({ status, ...(isVerbose ? { checks } : {}) });
    },
  });
}
