import { MigError } from "@mig/lifecycle";
import type { Config } from "./config.ts";
import { formatAddress } from "./values.ts";

/** Why the controller could not start or go on, in one sentence with the setting to change. The stack is for debug. */
export function explainFailure(error: unknown, config: Config): string {
  const code = codeOf(error);
  const isListening = error instanceof Error && "syscall" in error && error.syscall === "listen";
  if (isListening && error instanceof Error) {
    const port = "port" in error ? Number(error.port) : 0;
    const isHttp = port === config.listen.port;
    const address = isHttp || config.grpcListen === undefined ? config.listen : config.grpcListen;
    const why = code === "EADDRINUSE" ? "is taken by another program" : `cannot be listened on (${code})`;
    const remedy = isHttp
      ? "choose another with --listen"
      : "choose another with --grpc-listen, or --grpc-listen off";
    return `${formatAddress(address)} ${why}; ${remedy}`;
  }
  if (error instanceof MigError) {
    const cause = codeOf(error.cause);
    const host = config.databaseUrl === undefined ? undefined : hostOf(config.databaseUrl.reveal());
    const isServer = error.code === "storage_unavailable" && host !== undefined;
    if (isServer)
      return `PostgreSQL at ${host} does not answer (${cause ?? "no reason given"}); see --database-url`;
    return cause === undefined ? error.message : `${error.message} (${cause})`;
  }
  if (code !== undefined && error instanceof Error && "path" in error) {
    return `${String(error.path)} cannot be used (${code}); choose a directory that is writable with --data-dir`;
  }
  return error instanceof Error ? `${error.message}; --log-level debug shows where` : String(error);
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

function hostOf(databaseUrl: string): string {
  return URL.canParse(databaseUrl) ? new URL(databaseUrl).host : "the given address";
}
