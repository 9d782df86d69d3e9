/** Where the App of the stand-in is installed, with what permissions, and which repositories were renamed. */
import { Refusal } from "./http.ts";
import type { GithubOptions } from "./types.ts";

export interface Installation {
  readonly id: number;
  readonly owner: string;
  suspendedAtMs: number | null;
}

/** What the App is granted at its installations, unless told otherwise. */
const enough: Readonly<Record<string, string>> = {
  organization_self_hosted_runners: "write",
  administration: "write",
  actions: "write",
  metadata: "read",
};

export class Installs {
  readonly granted: Readonly<Record<string, string>>;
  /** Without a list every owner is installed, all under number 1. */
  readonly #isOpen: boolean;
  readonly #byOwner = new Map<string, Installation>();
  readonly #gone = new Set<string>();
  readonly #renamed = new Map<string, { readonly id: number; readonly to: string }>();
  readonly #open: Installation = { id: 1, owner: "acme", suspendedAtMs: null };
  #lastId = 0;

  constructor({ installations, permissions = enough }: GithubOptions) {
    this.granted = permissions;
    this.#isOpen = installations === undefined;
    for (const [owner, id] of Object.entries(installations ?? {})) this.install(owner, id);
  }

  of(owner: string): Installation | undefined {
    const known = this.#byOwner.get(owner.toLowerCase());
    if (known || !this.#isOpen || this.#gone.has(owner.toLowerCase())) return known;
    return { ...this.#open, owner };
  }

  byId(id: number): Installation | undefined {
    return this.all().find((one) => one.id === id);
  }

  all(): readonly Installation[] {
    const named = [...this.#byOwner.values()];
    return this.#isOpen && !this.#gone.has("acme") ? [this.#open, ...named] : named;
  }

  /** The number of the installation: a new one each time, as at GitHub. */
  install(owner: string, id = Math.max(1, this.#lastId) + 1): number {
    this.#lastId = Math.max(this.#lastId, id);
    this.#gone.delete(owner.toLowerCase());
    this.#byOwner.set(owner.toLowerCase(), { id, owner, suspendedAtMs: null });
    return id;
  }

  uninstall(owner: string): void {
    this.#byOwner.delete(owner.toLowerCase());
    this.#gone.add(owner.toLowerCase());
  }

  suspend(owner: string, isSuspended: boolean): void {
    const found = this.#byOwner.get(owner.toLowerCase()) ?? (this.of(owner) && this.#open);
    if (!found) throw new Refusal(404, `The App is not installed for ${owner}.`);
    found.suspendedAtMs = isSuspended ? Date.now() : null;
  }

  rename(from: string, to: string): void {
    const id = 700_001 + this.#renamed.size;
    this.#renamed.set(from.toLowerCase(), { id, to });
  }

  /** `/repos/OLD/NAME/…` → `/repositories/ID/…`, where GitHub sends whoever asks for the old name. */
  movedPath(path: string): string | undefined {
    const [, name = "", rest = ""] = /^\/repos\/([^/]+\/[^/]+)(\/.*)?$/.exec(path) ?? [];
    const found = this.#renamed.get(name.toLowerCase());
    return found && `/repositories/${found.id}${rest}`;
  }

  /** `/repositories/ID/…` → `/repos/NEW/NAME/…`. */
  namedPath(path: string): string {
    const [, id = "", rest = ""] = /^\/repositories\/(\d+)(\/.*)?$/.exec(path) ?? [];
    const found = [...this.#renamed.values()].find((one) => one.id === Number(id));
    return found ? `/repos/${found.to}${rest}` : path;
  }
}
