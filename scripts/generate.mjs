// Makes packages/protocol/src/gen from proto/. The result is committed; tests/tidy.test.ts notices a difference.
import { spawnSync } from "node:child_process";

for (const args of [["lint"], ["generate"]]) {
  const { status } = spawnSync("node_modules/.bin/buf", args, { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
