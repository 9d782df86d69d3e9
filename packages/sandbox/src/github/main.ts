/**
 * `node main.js [--port N] [--app-id N] [--public-key FILE] [--poll-ms N] [--options JSON]`: prints one line of JSON when
 * it is ready. `--options`: more of `GithubOptions`, as in `{"limits":{"pointsPerMinute":900}}`.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { startGithub } from "./github.ts";
import type { GithubOptions } from "./types.ts";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    "app-id": { type: "string", default: "1234" },
    "public-key": { type: "string" },
    "poll-ms": { type: "string", default: "50000" },
    options: { type: "string", default: "{}" },
  },
});
const github = await startGithub({
  ...(JSON.parse(values.options) as GithubOptions),
  port: Number(values.port),
  appId: Number(values["app-id"]),
  pollMs: Number(values["poll-ms"]),
  ...(values["public-key"] === undefined ? {} : { publicKeyPem: readFileSync(values["public-key"], "utf8") }),
});
const { url, webUrl, port } = github;
process.stdout.write(`${JSON.stringify({ url, webUrl, port, pid: process.pid })}\n`);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void github.close().then(() => process.exit(0)));
}
