import { limits } from "@mig/protocol";
import { expect } from "vitest";
import { obey } from "./commands.ts";
import type { Scenario } from "./scenario.ts";

const bytesOf = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));
/** Strings and numbers of so many bytes as JSON: numbers grow most on their way over gRPC. */
const enormous = [
  { note: "é".repeat((limits.commandParametersBytesMax - bytesOf({ note: "" })) / 2) },
  { list: Array.from({ length: (limits.commandParametersBytesMax - bytesOf({ list: [] })) / 2 }, () => 1) },
];

export const hugeParameters: readonly Scenario[] = [
  {
    name: "the largest that are taken come whole",
    async play(peer) {
      for (const parameters of enormous) {
        expect(bytesOf(parameters)).toBeGreaterThan(limits.commandParametersBytesMax - 4);
        await peer.order("update_config", parameters);
        const command = await peer.next();
        expect(JSON.stringify(command.parameters) === JSON.stringify(parameters)).toBe(true);
        await peer.finish(command);
      }
    },
  },
  {
    name: "larger ones are refused when they are ordered; taken, they fitted in no message and held up the queue",
    async play(peer) {
      for (const bytes of [limits.commandParametersBytesMax, limits.messageBytesMax])
        expect((await peer.orderAnswer("update_config", { note: "x".repeat(bytes) })).status).toBe(413);
      await peer.order("drain");
      expect(await obey(peer)).toBe("drain");
    },
  },
];
