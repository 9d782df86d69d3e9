import { MigError } from "@mig/lifecycle";

/** controller.endpoint: a URL; "host:port" is plaintext HTTP. */
export function parseEndpoint(endpoint: string): URL {
  const url = parse(endpoint, "http:");
  if (url !== undefined) return url;
  throw new MigError("settings_invalid", `controller.endpoint "${endpoint}" is not an http or https URL.`);
}

/**
 * controller.grpc_endpoint: a URL or host:port. Without a scheme it is as safe as controller.endpoint, so that a token
 * that travels by https does not also travel in the clear; without any, the same host and port.
 */
export function resolveGrpcEndpoint(
  grpcEndpoint: string | undefined,
  endpoint: string | undefined,
): string | undefined {
  const base = endpoint === undefined ? undefined : parseEndpoint(endpoint);
  if (grpcEndpoint === undefined) return base?.origin;
  return parseGrpcEndpoint(grpcEndpoint, base?.protocol).origin;
}

export function parseGrpcEndpoint(endpoint: string, protocolWithout = "http:"): URL {
  const url = parse(endpoint, protocolWithout);
  if (url !== undefined) return url;
  throw new MigError("settings_invalid", `controller.grpc_endpoint "${endpoint}" is not host:port or a URL.`);
}

function parse(text: string, protocolWithout: string): URL | undefined {
  try {
    const url = new URL(/^[a-z]+:\/\//i.test(text) ? text : `${protocolWithout}//${text}`);
    return /^https?:$/.test(url.protocol) ? url : undefined;
  } catch {
    return undefined;
  }
}
