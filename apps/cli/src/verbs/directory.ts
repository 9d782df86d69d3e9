import { apiVerb } from "../options.ts";
import { inPath, pathOf } from "../pages.ts";
import { listVerb, plain, tell } from "./list-verb.ts";

export const directoryVerbs = [
  listVerb({
    name: "pool ls",
    about: "The pools that VMs join.",
    path: "pools",
    listKey: "pools",
    columns: [plain("POOL", "id"), plain("ORG", "org_id"), plain("RUNNERS", "runner_url")],
    none: "There is no pool.",
    examples: ["migctl pool ls", "migctl pool ls --json"],
  }),
  apiVerb({
    name: "pool show",
    words: ["ID"],
    about: "One pool.",
    examples: ["migctl pool show linux", "migctl pool show linux --json"],
    run: async ({ api, io, words, has }) =>
      tell(io, has("json"), await api.call("GET", pathOf(`pools/${inPath(words[0])}`))),
  }),
  listVerb({
    name: "org ls",
    about: "The organizations.",
    path: "orgs",
    listKey: "orgs",
    columns: [plain("ORG", "id"), plain("GITHUB", "github")],
    none: "There is no organization.",
    examples: ["migctl org ls", "migctl org ls --json"],
  }),
];
