// The OpenAPI document of a controller that has everything: one is started on a free port with a database of its own,
// asked, and ended. Used by generate-api-client.mjs; `node scripts/openapi.mjs` prints the document.
import { spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export async function readOpenApi() {
  const dir = await mkdtemp(join(tmpdir(), "mig-openapi-"));
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  await writeFile(join(dir, "app.pem"), privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  const config = { github: { app_id: 1, private_key_file: join(dir, "app.pem") }, pools: [] };
  await writeFile(join(dir, "mig.yaml"), JSON.stringify(config));
  const program = fileURLToPath(new URL("../apps/controller/bin/mig-controller.js", import.meta.url));
  const args = ["--listen", "127.0.0.1:0", "--grpc-listen", "off", "--log-format", "json"];
  const paths = ["--data-dir", join(dir, "data"), "--config", join(dir, "mig.yaml")];
  const controller = spawn(process.execPath, [program, ...args, ...paths], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  try {
    const url = await addressOf(controller);
    return await (await fetch(`${url}/api/v1/openapi.json`)).json();
  } finally {
    controller.kill("SIGTERM");
    await new Promise((resolve) => controller.once("exit", resolve));
    await rm(dir, { recursive: true, force: true });
  }
}

function addressOf(controller) {
  return new Promise((resolve, reject) => {
    let text = "";
    const look = (chunk) => {
      text += chunk;
      const found = /"http":"?(?:http:\/\/)?(127\.0\.0\.1:\d+)/.exec(text);
      if (found !== null) resolve(`http://${found[1]}`);
    };
    controller.stdout.on("data", look);
    controller.stderr.on("data", look);
    controller.once("exit", (code) => reject(new Error(`the controller ended with ${code}:\n${text}`)));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  console.log(JSON.stringify(await readOpenApi(), null, 2));
