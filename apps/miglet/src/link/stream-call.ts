import type { MigError } from "@mig/lifecycle";
import type { AgentMessage, ControllerMessage } from "@mig/protocol";
import type { Channel } from "./link.ts";
import type { TlsMaterial } from "./tls-material.ts";

export interface StreamAccess {
  token: string | undefined;
  tls: TlsMaterial;
}

export interface CallListener {
  /** `read` throws WireError for what is no message and answers undefined for one of an unknown kind. */
  onMessage(read: () => ControllerMessage | undefined): void;
  /** Once, whatever ended the call. */
  onEnd(reason: MigError): void;
}

/** What carries the messages: a gRPC call, a WebSocket. */
export interface StreamCall {
  /** Resolves when the message was handed to the socket; rejects when the call has ended. */
  send(message: AgentMessage): Promise<void>;
  /** One of many: resolves when there is room for the next. */
  sendEvent(message: AgentMessage): Promise<void>;
  /** Says that nothing more will be sent. */
  finish(): void;
  /** Ends call and connection now. */
  destroy(): void;
}

export interface StreamKind {
  readonly channel: Channel;
  start(access: StreamAccess, listener: CallListener): StreamCall;
}
