import { type EventType, type JsonObject, readText } from "@mig/protocol";
import type { StateFile } from "./state-file.ts";

/**
 * Which events this life has told that it tells once, with their numbers. The number is noted before the event is
 * written: a process that dies between the two leaves a number that the spool never gave, and then the event was not
 * told. So however the writes of an event and of the state are cut apart, the next process knows exactly.
 */
export interface Said {
  /** The number under which it was told; undefined: not yet, or it may be told any number of times. */
  find(type: EventType, data: JsonObject): number | undefined;
  note(type: EventType, data: JsonObject, seq: number): Promise<void>;
}

/** `lastSeq` is the last number of the spool as it was found. */
export async function openSaid(state: StateFile, lastSeq: number): Promise<Said> {
  const found = Object.entries(state.read().said ?? {});
  const written = found.filter(([, seq]) => seq <= lastSeq);
  if (written.length < found.length) await state.change({ said: Object.fromEntries(written) });
  return {
    find(type, data) {
      const key = keyOf(type, data);
      return key === undefined ? undefined : state.read().said?.[key];
    },
    async note(type, data, seq) {
      const key = keyOf(type, data);
      if (key !== undefined) await state.change({ said: { ...state.read().said, [key]: seq } });
    },
  };
}

/** A job is told to have started a second time when its ids become known. */
function keyOf(type: EventType, data: JsonObject): string | undefined {
  switch (type) {
    case "job_started":
      return (readText(data, "run_id") ?? "") === "" ? type : "job_identified";
    case "vm_started":
    case "runner_registered":
    case "job_completed":
    case "runner_crashed":
    case "vm_shutting_down":
    case "vm_terminated":
      return type;
    default:
      return undefined;
  }
}
