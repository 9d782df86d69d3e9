import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";

type Call = "nonce" | "join" | "renew" | "events";

/** The three calls of joining, answered as a test says, and events, which are acknowledged. */
export interface JoinLab {
  readonly url: string;
  readonly asked: { call: Call; authorization: string | undefined; body: Record<string, unknown> }[];
  /** The status and the code of the next answers to a call, in order; then all goes well. */
  refuse(call: Call, ...answers: readonly (readonly [number, string])[]): void;
  /** Instead of a pass. */
  answer: object | undefined;
  close(): Promise<void>;
}

export async function startJoinLab(): Promise<JoinLab> {
  const asked: JoinLab["asked"] = [];
  const refusals = new Map<string, (readonly [number, string])[]>();
  const server = createServer((request, response) => {
    void read(request).then((body) => {
      const path = request.url ?? "";
      const last = path.slice(path.lastIndexOf("/") + 1);
      const call = last === "token" ? "renew" : (last as Call);
      asked.push({ call, authorization: request.headers.authorization, body });
      const [status, code] = refusals.get(call)?.shift() ?? [200, ""];
      response.writeHead(status, { "content-type": "application/json" });
      const pass = {
        vm_id: "vm-1",
        pool_id: "pool-a",
        org_id: "acme",
        access_token: `token-${asked.length}`,
        token_type: "Bearer",
        expires_in: 900,
      };
      const good =
        call === "nonce" ? { nonce: `nonce-${asked.length}`, expires_in: 60 } : (lab.answer ?? pass);
      const bad = { error: { code, message: `the ${call} is ${code}` } };
      response.end(JSON.stringify(status === 200 ? good : bad));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const lab: JoinLab = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    refuse: (call, ...answers) => void refusals.set(call, [...answers]),
    answer: undefined,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  return lab;
}

async function read(request: IncomingMessage): Promise<Record<string, unknown>> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return JSON.parse(text) as Record<string, unknown>;
}
