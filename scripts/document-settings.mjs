// Writes docs/operate/configuration.md from the tables that the programs read their settings by. Run by
// `npm run generate` after a build; tests/tidy.test.ts notices a document that has fallen behind.
import { readFileSync, writeFileSync } from "node:fs";

const path = new URL("../docs/operate/configuration.md", import.meta.url);
const text = await documentSettings();
if (process.argv.includes("--check")) {
  if (readFileSync(path, "utf8") !== text) {
    console.error(
      "docs/operate/configuration.md is not what the settings say; run: npm run build && npm run generate",
    );
    process.exitCode = 1;
  }
} else writeFileSync(path, text);

async function documentSettings() {
  const controller = await import("../apps/controller/dist/config/settings.js");
  const miglet = await import("../apps/miglet/dist/boot/settings-table.js");
  const cell = (value) => String(value).replaceAll("|", "\\|");
  const row = (...cells) => `| ${cells.map(cell).join(" | ")} |`;
  const controllerRows = controller.settingNames.map((name) => {
    const { fallback, help, alsoEnv, isSecret } = controller.describe(name);
    const variables = [controller.variableOf(name), ...(alsoEnv === undefined ? [] : [alsoEnv])];
    const shown = fallback === undefined ? "" : `\`${fallback}\``;
    return row(
      `\`${controller.flagOf(name)}\``,
      variables.map((v) => `\`${v}\``).join(", "),
      shown,
      isSecret ? `${help} (secret)` : help,
    );
  });
  const migletRows = miglet.settingKeys.map((key) => {
    const { fallback, about, kind } = miglet.settingsTable[key];
    const variable = `MIGLET_${key.replaceAll(".", "_").toUpperCase()}`;
    const shown =
      fallback === miglet.required ? "required" : fallback === undefined ? "" : `\`${kind.show(fallback)}\``;
    return row(`\`${key}\``, `\`${variable}\``, shown, about);
  });
  return `# Settings

Made from the programs' own tables by \`npm run generate\`; do not edit.

## mig-controller

Flags win over variables, these over the YAML file of \`--config\` (the flag's name with underscores; \`github.*\` nested),
that over the defaults. \`mig-controller config\` prints what is in force and where it came from.

| flag | variable | default | what |
|---|---|---|---|
${controllerRows.join("\n")}

The YAML file also holds \`pools\`, a list of \`{id, org_id, runner_url, runner_group, labels, registration: jit | token,
legacy_agents, reuse, runner, app, allow_public, leftover}\`, and \`default_pool\` with the same keys for VMs of a pool that is not listed.

## miglet

Flags (\`--\` and the key, as in \`--controller.channel poll\`) win over cloud metadata, that over variables, these over
the YAML file of \`--config\`, that over the defaults. \`miglet config\` prints what is in force and where it came from.

| key | variable | default | what |
|---|---|---|---|
${migletRows.join("\n")}
`;
}
