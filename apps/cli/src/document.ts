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

With a token of your OpenID provider (\`oidc.issuer\`, see [security.md](security.md)) the profile keeps where the next one comes from:
\`--token-file\` the path of a file that something renews, \`--token-command\` a command. The shell runs it, once for each call of migctl
and each minute of a long one; what it prints is the token, what it complains of is shown. Whoever can write
\`profiles.yaml\` decides what is run: it is yours alone (0600).

A table that is wider than the terminal becomes a block of lines for each row. \`NO_COLOR\` is obeyed.

${parts.join("\n")}`;
}
