import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What becomes of an upload: `pass` it on, `hold` the answer until its agent is gone, or `lose` the answer. */
export type Fate = "pass" | "hold" | "lose";

/** Between an agent that polls and its controller. All requests go through; the test decides what uploads meet. */
export class UploadProxy {
  /** Asked once for each upload, when the controller has answered it. */
  fate: () => Promise<Fate> | Fate = () => "pass";
  /** The digests of the uploads that came, in order. */
  readonly uploads: string[] = [];
  readonly #target: string;
  readonly #server: Server;

  private constructor(target: string) {
    this.#target = target;
    this.#server = createServer((from, to) => {
      this.#forward(from, to).catch(() => to.destroy());
    });
  }

  static async open(target: string): Promise<UploadProxy> {
    const proxy = new UploadProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #forward(from: IncomingMessage, to: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of from) chunks.push(chunk as Buffer);
    const { method = "GET", url = "/", headers } = from;
    const isUpload = method === "PUT";
    if (isUpload) this.uploads.push(String(headers["content-digest"]));
    const answer = await new Promise<{ status: number; body: Buffer }>((resolve, reject) => {
      const onward = request(this.#target + url, { method, headers }, (message) => {
        const parts: Buffer[] = [];
        message.on("data", (part: Buffer) => parts.push(part));
        message.on("end", () => resolve({ status: message.statusCode ?? 0, body: Buffer.concat(parts) }));
        message.on("error", reject);
      });
      onward.on("error", reject);
      onward.end(Buffer.concat(chunks));
    });
    const fate = isUpload ? await this.fate() : "pass";
    if (fate === "lose") to.destroy();
    if (fate === "pass") to.writeHead(answer.status, { "content-type": "application/json" }).end(answer.body);
  }
}
