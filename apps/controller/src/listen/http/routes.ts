import type { IncomingMessage, ServerResponse } from "node:http";
import type { Static, TSchema } from "@mig/protocol/schemas";
import type { FastifyBaseLogger, FastifyInstance, FastifyTypeProvider, RawServerDefault } from "fastify";

/** The schemas of a route also type its handler. */
export interface FromSchemas extends FastifyTypeProvider {
  validator: this["schema"] extends TSchema ? Static<this["schema"]> : unknown;
  serializer: unknown;
}

/** Where routes are added. */
export type Routes = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  FromSchemas
>;
