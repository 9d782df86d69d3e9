import { asObject, readNumber, readText, type Unknown } from "@mig/protocol";
import { jsonText } from "../json-text.ts";

/**
 * Tells what happens in plain words, with the seconds since the start. The controller's log says what it did in
 * constant sentences; those that belong to the life of a VM have a translation here, warnings are passed on, and
 * the rest stays in the log file.
 */
export interface Story {
  tell(who: string, what: string): void;
  /** `inShort`: what a program gets of it. */
  say(text: string, inShort: string): void;
  hearController(line: string): void;
}

const words: Readonly<Record<string, (fields: Unknown) => string>> = {
  "a VM has started": () => "says vm_started; the controller stores it and acknowledges",
  "a VM has connected": (f) =>
    `opens its channel (${readText(f, "channel")}, epoch ${readNumber(f, "epoch")})`,
  "a runner is registered": (f) => `its runner ${readText(f, "runner_name") ?? ""} listens for jobs: idle`,
  "a job started": (f) => `runs job ${readText(f, "job_id") ?? "?"} of ${readText(f, "repository") ?? "?"}`,
  "a job completed": (f) => `the job is over: ${readText(f, "result")}`,
  "a command was answered": (f) => `answers ${readText(f, "type")}: ${readText(f, "state")}`,
  "a VM is drained": () => "is drained: nothing runs here and nothing will",
  "a VM shuts down": (f) => `shuts down (${readText(f, "reason")})`,
  "a VM reports an error": (f) => `reports an error: ${readText(f, "message") ?? readText(f, "code") ?? "?"}`,
  "a VM has ended": () => "has said its last word: terminated",
};

/** With `isJson` each thing that is told is a JSON object on a line of its own: `seconds` since the start, `who`, `what`. */
export function createStory(out: (text: string) => void, isJson: boolean): Story {
  const startedMs = performance.now();
  const tell = (who: string, what: string): void => {
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    out(
      isJson
        ? `${jsonText({ seconds: Number(seconds), who, what })}\n`
        : `${seconds.padStart(7)} s  ${who.padEnd(10)}  ${what}\n`,
    );
  };
  const say = (text: string, inShort: string): void => (isJson ? tell("dev", inShort) : out(`${text}\n`));
  return {
    tell,
    say,
    hearController(line) {
      const fields = parse(line);
      const who = readText(fields, "vm_id") ?? "controller";
      const sentence = readText(fields, "msg") ?? "";
      const translate = words[sentence];
      if (translate !== undefined) tell(who, translate(fields));
      else if (fields["level"] === "error") tell(who, `${sentence} (see the log)`);
      else if (fields["level"] === "warn" && !sentence.includes("authentication")) tell(who, sentence);
    },
  };
}

function parse(line: string): Unknown {
  try {
    return asObject(JSON.parse(line)) ?? {};
  } catch {
    return {};
  }
}
