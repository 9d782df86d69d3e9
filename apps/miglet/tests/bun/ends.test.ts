import { waitFor } from "@mig/kit";
import { afterEach, describe, expect, test } from "vitest";
import { endProbes, isBun, lives, startProbe } from "./start-probe.ts";

/** How a process ends, as main.ts relies on it. */
afterEach(endProbes);

describe("signals to the agent", () => {
  test("are heard each time, and end nothing by themselves", async () => {
    const probe = startProbe("signals");
    await probe.says("ready");
    probe.child.kill("SIGTERM");
    await probe.says("SIGTERM\n");
    probe.child.kill("SIGTERM");
    await probe.says("SIGTERM\nSIGTERM\n");
    probe.child.kill("SIGINT");
    expect(await probe.ended()).toMatchObject({ code: 130, signal: null });
  });
});

describe("an error that nobody expected", () => {
  test("reaches uncaughtException when it is thrown", async () => {
    expect(await startProbe("throws").ended()).toMatchObject({
      code: 70,
      stdout: "uncaughtException: boom\n",
    });
  });

  // Otherwise Bun prints the error itself, with a piece of the source and unredacted, and ends with 1.
  test("of a promise reaches uncaughtException on Node only, unhandledRejection on both", async () => {
    expect(await startProbe("rejects").ended()).toMatchObject(
      isBun ? { code: 1, stdout: "" } : { code: 70, stdout: "uncaughtException: boom\n" },
    );
    expect(await startProbe("rejectsWithListener").ended()).toMatchObject({
      code: 70,
      stdout: "unhandledRejection: boom\n",
    });
  });
});

describe("the end", () => {
  test.skipIf(process.platform !== "linux")(
    "comes by itself when only unref'd timers and children are left, and the child lives on",
    async () => {
      const { code, stdout } = await startProbe("unref").ended();
      expect(code).toBe(0);
      const pid = Number(stdout);
      expect(await lives(pid)).toBe(true);
      process.kill(pid, "SIGKILL");
      await waitFor("the end of the child", async () => !(await lives(pid)));
    },
  );

  test("does not come when whoever reads the log goes away", async () => {
    const probe = startProbe("brokenPipe");
    await probe.says("x");
    probe.child.stdout?.destroy();
    expect(await probe.ended()).toMatchObject({ code: 9, signal: null });
  });

  // A pipe holds 64 KiB; what is more is lost by process.exit on both runtimes when the reader is slower.
  test("loses nothing of what fits into a pipe", async () => {
    const { code, stdout } = await startProbe("lastWords", "60000").ended();
    expect(code).toBe(3);
    expect(stdout).toHaveLength(60_001);
  });
});
