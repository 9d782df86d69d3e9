import { createHash } from "node:crypto";
import {
  access,
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { type Ran, runProgram } from "./run-program.ts";

/** install.sh and its companions with a directory in place of a machine (`--root`), and a package to install. */
export interface DeployLab extends AsyncDisposable {
  readonly dir: string;
  readonly root: string;
  /** Holds the executable and SHA256SUMS. */
  readonly from: string;
  /** install.sh asks nothing of the executable but its sum; a short program stands for 100 MB. */
  makePackage(text: string): Promise<void>;
  install(...args: string[]): Promise<Ran>;
  /** Every file below the root: its mode and content, or where a link leads. */
  tree(): Promise<Record<string, string>>;
  /** Paths of a web server and the files behind them; answers its URL. */
  serve(files: Readonly<Record<string, string>>): Promise<string>;
}

export const deploy = fileURLToPath(new URL("../../apps/miglet/deploy", import.meta.url));
export const packagedName = `miglet-linux-${process.arch === "arm64" ? "arm64" : "x64"}`;
export const isRoot = process.getuid?.() === 0;

export const sha256 = (content: string | Buffer): string =>
  createHash("sha256").update(content).digest("hex");

export const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

export async function openDeployLab(): Promise<DeployLab> {
  const dir = await mkdtemp(join(tmpdir(), "mig-deploy-"));
  // Another user goes through it in one of the tests.
  await chmod(dir, 0o755);
  const root = join(dir, "root");
  const from = join(dir, "package");
  const closers: (() => void)[] = [];
  await mkdir(root);
  const lab: DeployLab = {
    dir,
    root,
    from,
    async makePackage(text) {
      await mkdir(from, { recursive: true });
      const program = `#!/bin/sh\n# ${text}\nread -r _\n`;
      await writeFile(join(from, packagedName), program, { mode: 0o755 });
      await writeFile(join(from, "SHA256SUMS"), `${sha256(program)}  ${packagedName}\n`);
    },
    install: (...args) => runProgram("sh", [join(deploy, "install.sh"), "--root", root, ...args]),
    async tree() {
      const entries = await readdir(root, { recursive: true, withFileTypes: true });
      const files = entries.filter((entry) => !entry.isDirectory());
      return Object.fromEntries(
        await Promise.all(
          files.map(async (entry) => {
            const path = join(entry.parentPath, entry.name);
            if (entry.isSymbolicLink()) return [relative(root, path), await readlink(path)];
            const mode = ((await stat(path)).mode & 0o7777).toString(8);
            return [relative(root, path), `${mode} ${sha256(await readFile(path))}`];
          }),
        ),
      );
    },
    async serve(files) {
      const server = createServer((request, response) => {
        const path = files[request.url ?? ""];
        if (path === undefined) response.writeHead(404).end();
        else
          readFile(path).then(
            (content) => response.end(content),
            () => response.destroy(),
          );
      });
      closers.push(() => server.close());
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    },
    async [Symbol.asyncDispose]() {
      for (const close of closers) close();
      await rm(dir, { recursive: true, force: true });
    },
  };
  await lab.makePackage("first");
  return lab;
}
