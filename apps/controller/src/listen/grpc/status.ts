import { status as grpcStatus } from "@grpc/grpc-js";
import type { ErrorCode, MigError } from "@mig/lifecycle";

const statusOf: Partial<Record<ErrorCode, grpcStatus>> = {
  invalid_request: grpcStatus.INVALID_ARGUMENT,
  unauthenticated: grpcStatus.UNAUTHENTICATED,
  forbidden: grpcStatus.PERMISSION_DENIED,
  vm_mismatch: grpcStatus.PERMISSION_DENIED,
  rate_limited: grpcStatus.RESOURCE_EXHAUSTED,
  overloaded: grpcStatus.UNAVAILABLE,
  storage_unavailable: grpcStatus.UNAVAILABLE,
  shutting_down: grpcStatus.UNAVAILABLE,
  internal: grpcStatus.INTERNAL,
};

/** The status that ends a stream. Of a failure of ours nothing is told. */
export function toStatus({ code, message }: MigError): { code: grpcStatus; details: string } {
  const status = statusOf[code] ?? grpcStatus.FAILED_PRECONDITION;
  return { code: status, details: status === grpcStatus.INTERNAL ? "the controller failed" : message };
}
