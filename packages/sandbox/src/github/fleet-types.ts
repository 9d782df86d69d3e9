import type { Job } from "./types.ts";

export interface Session {
  readonly id: string;
  lastSeenMs: number;
  polling: boolean;
}

export interface Message {
  readonly messageId: number;
  readonly messageType: string;
  readonly body: string;
}

export interface Runner {
  readonly id: number;
  readonly name: string;
  readonly scope: string;
  readonly labels: readonly string[];
  readonly ephemeral: boolean;
  readonly disableUpdate: boolean;
  readonly groupId: number;
  readonly clientId: string;
  os: string;
  version: string | null;
  registration: "listed" | "retired" | "deleted";
  session: Session | null;
  job: MutableJob | null;
  busyUntilMs: number;
  readonly messages: Message[];
  /** Called whenever something that a poll waits for may have happened. */
  wake: () => void;
}

export type MutableJob = {
  -readonly [Key in keyof Job]: Job[Key];
} & { handedMs: number; renewedMs: number };
