import { waitFor } from "@mig/kit";
import { asObject, type JsonObject, readText, type Unknown } from "@mig/protocol";
import type { House } from "../lib/house.ts";

export interface Order {
  readonly expiresIn?: string;
  /** Idempotency-Key. */
  readonly key?: string;
}

export const patience = { timeoutMs: 20_000 } as const;

/** A VM as an operator sees it: what is ordered for it, and what became of that. */
export class OrderedVm {
  readonly vmId: string;
  readonly #house: House;

  constructor(house: House, vmId: string) {
    this.#house = house;
    this.vmId = vmId;
  }

  view(): Promise<Unknown> {
    return this.#house.vm(this.vmId);
  }

  async command({ id }: { id: string }): Promise<Unknown> {
    return (await this.#house.api("GET", `commands/${id}`)).body;
  }

  /** The command as the operator sees it, as soon as it is in this state. */
  until(command: { id: string }, state: string): Promise<Unknown> {
    return waitFor(
      `${command.id} to be ${state}`,
      async () => {
        const seen = await this.command(command);
        return seen["state"] === state ? seen : undefined;
      },
      { ...patience, everyMs: 60 },
    );
  }

  /** What is stored of this VM, as the operator lists it. */
  async stored(): Promise<number> {
    const { body } = await this.#house.api("GET", `events?vm_id=${this.vmId}&limit=1000`);
    return Array.isArray(body["events"]) ? body["events"].length : 0;
  }

  async order(type: string, parameters: JsonObject = {}, how: Order = {}): Promise<{ id: string }> {
    const answer = await this.orderAnswer(type, parameters, how);
    const id = readText(answer.body, "id");
    if (id === undefined)
      throw new Error(`not ordered: ${answer.status} ${JSON.stringify(answer.body).slice(0, 300)}`);
    return { id };
  }

  async orderAnswer(type: string, parameters: JsonObject = {}, { expiresIn, key }: Order = {}) {
    const answer = await fetch(`${this.#house.url}/api/v1/vms/${this.vmId}/commands`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...(key === undefined ? {} : { "idempotency-key": key }),
      },
      body: JSON.stringify({
        type,
        parameters,
        ...(expiresIn === undefined ? {} : { expires_in: expiresIn }),
      }),
    });
    return { status: answer.status, body: asObject(await answer.json()) ?? {} };
  }
}
