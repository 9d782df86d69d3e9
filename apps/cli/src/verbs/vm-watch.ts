import { readText, type Unknown } from "@mig/protocol";
import { jsonText } from "../json-text.ts";
import { type Asked, apiVerb } from "../options.ts";
import { inPath, pathOf } from "../pages.ts";
import { exitCodes } from "../verb.ts";
import { newsOf, tellTrouble } from "./feed.ts";
import { fold, lineOf, lineOfVm } from "./feed-line.ts";

export const vmWatchVerb = apiVerb({
  name: "vm watch",
  words: ["VM"],
  about: "One VM as it is, then its changes, events and commands, until it has ended or Ctrl-C.",
  options: { once: { help: "as it is, and end" } },
  examples: ["migctl vm watch vm-1", "migctl vm watch vm-1 --json"],
  exits: "0 terminated, or Ctrl-C; 1 refused or not reached; 2 the command line is wrong; 3 the VM is lost",
  async run(asked) {
    const { io, words, has } = asked;
    if (has("once")) {
      await tellNow(asked);
      return exitCodes.done;
    }
    let hasBegun = false;
    for await (const news of newsOf(asked, { vm_id: words[0], types: "vm,command,event" })) {
      // The feed is open before the VM is looked at: what changes after the look comes.
      const isFirst: boolean = news.kind === "begun" && !hasBegun;
      hasBegun ||= isFirst;
      tellTrouble(asked, news);
      let end: number | undefined;
      if (isFirst || news.kind === "gap") end = endOf(await tellNow(asked));
      if (news.kind === "item") {
        const { item, cursor } = news;
        io.out(has("json") ? `${jsonText({ ...item, cursor })}\n` : fold(lineOf(item), io.width));
        if (item.type === "vm") end = endOf(item.vm.state);
      }
      if (end !== undefined) return end;
    }
    return exitCodes.done;
  },
});

/** Answers the VM's state. */
async function tellNow({ api, io, words, has }: Asked): Promise<string> {
  const vm: Unknown = await api.call("GET", pathOf(`vms/${inPath(words[0])}`));
  io.out(has("json") ? `${jsonText({ type: "now", now: vm })}\n` : fold(lineOfVm(vm), io.width));
  return readText(vm, "state") ?? "";
}

/** The exit code of a VM that has ended; undefined while it has not. */
function endOf(state: string): number | undefined {
  if (state === "lost") return exitCodes.unwell;
  return state === "terminated" ? exitCodes.done : undefined;
}
