import { helpOf, type Verb } from "./verb.ts";

/** docs/operate/migctl.md, from what the verbs say of themselves (scripts/document-migctl.mjs writes it). */
export function documentVerbs(verbs: readonly Verb[]): string {
  const parts = verbs.map(
    (verb) => `## migctl ${verb.name}\n\n\`\`\`text\n${helpOf(verb).trimEnd()}\n\`\`\`\n`,
  );
  return `# migctl

Made by \`node scripts/document-migctl.mjs\` from the verbs' own help; a test holds the two equal.

\`migctl login URL\` asks for an API key and keeps it, readable by you alone, in \`~/.config/mig/profiles.yaml\`. Several
controllers are several profiles (\`--profile\`). \`MIG_URL\` and \`MIG_API_KEY\` win over the profile, and \`--url\` and
\`--token-file\` over both; the key of a profile is never sent to another URL than its own.

A table that is wider than the terminal becomes a block of lines for each row. \`NO_COLOR\` is obeyed.

${parts.join("\n")}`;
}
