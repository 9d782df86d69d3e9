import { type Proxy as Network, startProxy } from "../../apps/miglet/tests/link-proxy.ts";
import type { House } from "../lib/house.ts";

/** Where the controller is, and NATS when there is one. */
export interface Place {
  readonly house: House;
  /** Without TLS; undefined: agents go to NATS, if at all, as the controller says, and that network does not break. */
  readonly natsUrl?: string | undefined;
}

export type Road = "nats" | "grpc" | "http";

/** The networks between one VM and the controller: one for each way of coming there, so that one can break alone. */
export class Roads {
  readonly #networks: ReadonlyMap<Road, Network>;

  private constructor(networks: ReadonlyMap<Road, Network>) {
    this.#networks = networks;
  }

  static async open({ house, natsUrl }: Place): Promise<Roads> {
    const controller = Number(new URL(house.url).port);
    const networks = new Map<Road, Network>([
      ["grpc", await startProxy(controller)],
      ["http", await startProxy(controller)],
    ]);
    if (natsUrl !== undefined) networks.set("nats", await startProxy(Number(new URL(natsUrl).port)));
    return new Roads(networks);
  }

  /** Of this process, as a URL; undefined: there is no such road. */
  url(road: Road): string | undefined {
    const network = this.#networks.get(road);
    return network && `${road === "nats" ? "nats" : "http"}://127.0.0.1:${network.port}`;
  }

  /** The same for all of them. */
  each(act: (network: Network) => void): void {
    for (const network of this.#networks.values()) act(network);
  }

  only(road: Road): Network {
    const network = this.#networks.get(road);
    if (network === undefined) throw new Error(`there is no road over ${road}`);
    return network;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#networks.values()].map((network) => network.close()));
  }
}
