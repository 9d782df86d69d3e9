import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@mig/kit";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openStoredIdentity } from "../../src/boot/identity/key.ts";
import { proveKey } from "../../src/boot/identity/prove.ts";

/** What joining needs of node:crypto and of the disk, looked at with WebCrypto, which is other code. */
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "mig-identity-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));
const keyPath = (): string => join(dir, "identity-key.pem");
const open = (vmId = "vm-1") => openStoredIdentity(dir, vmId, silentLog);

describe("the key", () => {
  test("is made once, is PKCS#8 on P-256 for the owner alone, and is found again", async () => {
    const first = await open();
    expect(await readFile(keyPath(), "utf8")).toMatch(/^-----BEGIN PRIVATE KEY-----\n/);
    expect((await stat(keyPath())).mode & 0o777).toBe(0o600);
    expect(first.key.publicJwk).toEqual({
      kty: "EC",
      crv: "P-256",
      x: expect.stringMatching(/^[\w-]{43}$/),
      y: expect.stringMatching(/^[\w-]{43}$/),
    });
    expect((await open()).key.publicJwk).toEqual(first.key.publicJwk);
    expect((await readdir(dir)).sort()).toEqual(["identity-key.pem", "identity.json"]);
  });

  test("is remembered with what it is good for", async () => {
    const first = await open();
    expect(first.belonging).toBeUndefined();
    await first.remember({ poolId: "pool-a", orgId: "acme" });
    expect((await open()).belonging).toEqual({ poolId: "pool-a", orgId: "acme" });
    expect(await readFile(join(dir, "identity.json"), "utf8")).not.toContain("PRIVATE");
  });

  test("of another VM, from an image made of it, is put aside", async () => {
    const first = await open("vm-1");
    await first.remember({ poolId: "pool-a", orgId: "acme" });
    const copy = await open("vm-2");
    expect(copy.key.publicJwk).not.toEqual(first.key.publicJwk);
    expect(copy.belonging).toBeUndefined();
    expect((await open("vm-2")).key.publicJwk).toEqual(copy.key.publicJwk);
    expect(await readdir(dir)).toContain("identity-key.pem.other");
  });

  test("that is broken is put aside, and one that others could read is closed", async () => {
    const first = await open();
    await chmod(keyPath(), 0o644);
    expect((await open()).key.publicJwk).toEqual(first.key.publicJwk);
    expect((await stat(keyPath())).mode & 0o777).toBe(0o600);
    await writeFile(keyPath(), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    expect((await open()).key.publicJwk).not.toEqual(first.key.publicJwk);
    expect(await readdir(dir)).toContain("identity-key.pem.broken");
  });

  test("that cannot be kept is said with what to do", async () => {
    await writeFile(keyPath(), "");
    await expect(openStoredIdentity(keyPath(), "vm-1", silentLog)).rejects.toMatchObject({
      code: "state_unwritable",
      message: expect.stringContaining("state_dir"),
    });
  });
});

test("a proof is a JWS that others verify, over this nonce and this name", async () => {
  const { key } = await open();
  for (const nonce of ["n-1", 'ß"\\', "x".repeat(2_000)]) {
    const [header = "", payload = "", signature = ""] = proveKey(key, { nonce, vmId: "vm-1" }).split(".");
    const read = (part: string): unknown => JSON.parse(Buffer.from(part, "base64url").toString());
    expect(read(header)).toEqual({ alg: "ES256", typ: "mig-proof+jwt", jwk: key.publicJwk });
    expect(read(payload)).toEqual({ nonce, vm_id: "vm-1" });
    const ecdsa = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
    const publicKey = await crypto.subtle.importKey("jwk", { ...key.publicJwk }, ecdsa, false, ["verify"]);
    const bytes = Buffer.from(signature, "base64url");
    expect(bytes.length).toBe(64);
    const verify = (text: string) => crypto.subtle.verify(ecdsa, publicKey, bytes, Buffer.from(text));
    expect(await verify(`${header}.${payload}`)).toBe(true);
    expect(await verify(`${header}.${payload}x`)).toBe(false);
  }
});
