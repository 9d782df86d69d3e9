import type { Github } from "@mig/sandbox";
import { readAppKey, signJwt } from "../../apps/controller/src/github/app-jwt.ts";
import type { Description } from "./description.ts";

/** Each described route once, with parameters that exist. Answers with those that the stand-in has. */
export async function tryEveryRoute(
  description: Description,
  github: Github,
  apiUrl: string,
  privateKeyPem: string,
): Promise<string[]> {
  const jwt = await signJwt("1234", readAppKey(privateKeyPem), Date.now());
  const call = async (method: string, path: string, bearer: string, body?: object) => {
    const response = await fetch(apiUrl + path, {
      method,
      headers: {
        accept: "application/vnd.github+json",
        authorization: `Bearer ${bearer}`,
        "user-agent": "mig-contract",
        "x-github-api-version": "2022-11-28",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return {
      status: response.status,
      json: (text === "" ? {} : JSON.parse(text)) as Record<string, unknown>,
    };
  };
  const bought = await call("POST", "/app/installations/1/access_tokens", jwt);
  const token = String(bought.json["token"]);
  const job = await github.queueJob();
  const answered: string[] = [];
  const runnerIds = new Map<string, number>();
  for (const base of ["/orgs/acme", "/repos/acme/app"]) {
    const jit = { name: "vm-1", runner_group_id: 1, labels: ["linux"] };
    const made = await call("POST", `${base}/actions/runners/generate-jitconfig`, token, jit);
    runnerIds.set(base, (made.json["runner"] as { id: number }).id);
  }
  const withBody: Record<string, object> = {
    "generate-jitconfig": { name: "vm-2", runner_group_id: 1, labels: ["linux"], work_folder: "_work" },
    labels: { labels: ["x"] },
    config: { url: "https://mig.example/hooks" },
  };
  const rank = ({ method }: { method: string }): number =>
    ["GET", "POST", "PUT", "PATCH", "DELETE"].indexOf(method);
  for (const { method, template } of [...description.operations].sort((a, b) => rank(a) - rank(b))) {
    const base = template.startsWith("/orgs") ? "/orgs/acme" : "/repos/acme/app";
    const values: Record<string, string | number | undefined> = {
      ...{ org: "acme", owner: "acme", repo: "app", installation_id: 1, runner_group_id: 1, name: "x" },
      ...{
        attempt_number: 1,
        delivery_id: 1,
        run_id: job.runId,
        job_id: job.id,
        runner_id: runnerIds.get(base),
      },
    };
    const path = template.replace(/\{(\w+)\}/g, (_all, name: string) => String(values[name]));
    const isAsApp = template.startsWith("/app") || template.endsWith("/installation");
    const body =
      method === "GET" || method === "DELETE" ? undefined : withBody[template.split("/").at(-1) ?? ""];
    const { status } = await call(method, path, isAsApp ? jwt : token, body);
    if (status < 300) answered.push(`${method} ${template}`);
  }
  return answered;
}
