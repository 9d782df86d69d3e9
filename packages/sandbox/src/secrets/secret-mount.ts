import { randomBytes } from "node:crypto";
import { mkdir, readlink, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

export interface SecretMount {
  /** All keys at once, as a change of the Secret reaches a pod. */
  write(data: Readonly<Record<string, string | Buffer>>): Promise<void>;
}

/**
 * A Secret as kubelet mounts it (its AtomicWriter): the keys are links to `..data/KEY`, `..data` is a link to a
 * directory with a time in its name, and a change is a new directory and one rename of that link.
 */
export function createSecretMount(directory: string): SecretMount {
  let known = new Set<string>();
  return {
    async write(data) {
      await mkdir(directory, { recursive: true });
      const link = join(directory, "..data");
      const before = await readlink(link).catch(() => undefined);
      const name = `..${new Date().toISOString().replaceAll(/[-:T.]/g, "_")}${randomBytes(4).toString("hex")}`;
      await mkdir(join(directory, name), { mode: 0o755 });
      for (const [key, value] of Object.entries(data))
        await writeFile(join(directory, name, key), value, { mode: 0o644 });
      await symlink(name, join(directory, "..data_tmp"));
      await rename(join(directory, "..data_tmp"), link);
      for (const key of Object.keys(data))
        if (!known.has(key)) await symlink(join("..data", key), join(directory, key));
      for (const key of known) if (!Object.hasOwn(data, key)) await rm(join(directory, key), { force: true });
      known = new Set(Object.keys(data));
      if (before !== undefined) await rm(join(directory, before), { recursive: true, force: true });
    },
  };
}
