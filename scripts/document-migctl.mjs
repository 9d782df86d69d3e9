import { writeFile } from "node:fs/promises";
import { documentVerbs } from "../apps/cli/dist/document.js";
import { verbs } from "../apps/cli/dist/verbs/all.js";

/** Writes docs/operate/migctl.md. Build first: it reads what the verbs of the built program say of themselves. */
await writeFile(new URL("../docs/operate/migctl.md", import.meta.url), documentVerbs(verbs));
