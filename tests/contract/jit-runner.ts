import type { Github } from "@mig/sandbox";
import type { Grant } from "../../apps/controller/src/github/grant-source.ts";

/** Connects as the runner of a JIT grant and takes a job, as the Listener does (runner-contract §2.5). */
export async function makeBusy(github: Github, grant: Grant): Promise<void> {
  const files = JSON.parse(Buffer.from(grant.jitConfig ?? "", "base64").toString("utf8")) as Record<
    string,
    string
  >;
  const credentials = JSON.parse(Buffer.from(files[".credentials"] ?? "", "base64").toString("utf8")) as {
    Data: { ClientId: string };
  };
  const call = async (method: string, path: string, body?: object) => {
    const response = await fetch(github.url + path, {
      method,
      headers: { authorization: `Bearer ${credentials.Data.ClientId}`, "user-agent": "runner" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return (await response.json()) as Record<string, string>;
  };
  const session = await call("POST", "/broker/session", { ownerName: "vm", agent: { version: "2.336.0" } });
  await github.queueJob({ labels: ["linux"] });
  const message = await call("GET", `/broker/message?sessionId=${session["sessionId"]}`);
  const job = JSON.parse(message["body"] ?? "{}") as { runner_request_id: string };
  await call("POST", "/run/acquirejob", { jobMessageId: job.runner_request_id });
}

export async function completeJob(github: Github, jobId: string): Promise<void> {
  await fetch(`${github.url}/run/completejob`, {
    method: "POST",
    headers: { "user-agent": "runner" },
    body: JSON.stringify({ jobId, conclusion: "Succeeded" }),
  });
}
