import { request } from "node:http";

/** What the agent that runs on this machine says of itself. Rejects with a sentence when there is none. */
export function askStatus(listen: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (why: string): void =>
      reject(new Error(`No agent answers on ${listen} (${why}): is it running, with this metrics.listen?`));
    const call = request(`http://${listen}/status`, { timeout: 3_000 }, (answer) => {
      let body = "";
      answer.setEncoding("utf8").on("data", (part: string) => {
        body += part;
      });
      answer.once("end", () =>
        answer.statusCode === 200 ? resolve(body) : fail(`HTTP ${answer.statusCode}`),
      );
    });
    call.once("timeout", () => call.destroy(new Error("no answer in 3 s")));
    call.once("error", (error) => fail("code" in error ? String(error.code) : error.message));
    call.end();
  });
}
