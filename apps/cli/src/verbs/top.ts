import { pause } from "@mig/kit";
import type { Unknown } from "@mig/protocol";
import { ApiError } from "../api.ts";
import { type Asked, apiVerb } from "../options.ts";
import { pagesOf } from "../pages.ts";
import { exitCodes } from "../verb.ts";
import { sayJson } from "./list-verb.ts";
import { arrange, screenFrame, wholeFrame } from "./top-frame.ts";

const lookMs = 2_000;
const esc = "\u001b";
/** The screen that was there before comes back at the end. */
const openScreen = `${esc}[?1049h${esc}[?25l`;
const closeScreen = `${esc}[?25h${esc}[?1049l`;

export const topVerb = apiVerb({
  name: "top",
  about: "All VMs, live: what they do, for how long they live, what is wrong. q quits. Piped on: once.",
  options: {
    org: { takes: "ID", help: "only of this organization" },
    pool: { takes: "ID", help: "only of this pool" },
    state: { takes: "STATE", help: "only in this state; without it, those that have ended are left out" },
  },
  examples: ["migctl top --pool linux", "migctl top --json"],
  async run(asked) {
    const { io, has } = asked;
    if (has("json")) {
      sayJson(io, { vms: await look(asked) });
      return exitCodes.done;
    }
    if (process.stdout.isTTY) return live(asked);
    io.out(wholeFrame(await look(asked), io));
    return exitCodes.done;
  },
});

async function look({ api, text }: Asked): Promise<Unknown[]> {
  const state = text("state");
  const query = { org_id: text("org"), pool_id: text("pool"), state };
  const vms: Unknown[] = [];
  for await (const page of pagesOf(api, "vms", "vms", query, Number.POSITIVE_INFINITY)) vms.push(...page);
  return arrange(vms, state !== undefined);
}

async function live(asked: Asked): Promise<number> {
  const { io } = asked;
  // What cannot be asked at all is told before the screen is taken.
  let vms = await look(asked);
  let trouble = "";
  const end = new AbortController();
  const signal = AbortSignal.any([io.signal, end.signal]);
  const draw = (): void => {
    const { columns = 80, rows = 24 } = process.stdout;
    const frame = screenFrame(vms, columns, rows - (trouble === "" ? 0 : 1));
    const lines = trouble === "" ? frame : [...frame, trouble.slice(0, columns)];
    io.out(`${esc}[H${lines.map((line) => `${line}${esc}[K`).join("\r\n")}${esc}[J`);
  };
  const closeKeys = listen(() => end.abort());
  process.stdout.on("resize", draw);
  io.out(openScreen);
  try {
    while (!signal.aborted) {
      draw();
      await pause(lookMs, signal).catch(() => {});
      if (signal.aborted) break;
      try {
        vms = await look(asked);
        trouble = "";
      } catch (error) {
        // The last picture stays, and says that it is old.
        if (!(error instanceof ApiError)) throw error;
        trouble = error.message;
      }
    }
  } finally {
    process.stdout.off("resize", draw);
    closeKeys();
    io.out(closeScreen);
  }
  return exitCodes.done;
}

/** Keys come one by one, and Ctrl-C among them. */
function listen(quit: () => void): () => void {
  const { stdin } = process;
  if (!stdin.isTTY) return () => {};
  const onKey = (key: Buffer): void => {
    if (["q", "Q", "\u0003", "\u0004"].some((one) => key.includes(one))) quit();
  };
  stdin.setRawMode(true);
  stdin.on("data", onKey);
  return () => {
    stdin.off("data", onKey);
    stdin.setRawMode(false);
    stdin.pause();
  };
}
