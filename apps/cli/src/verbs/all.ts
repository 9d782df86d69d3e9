import { devVerb } from "../dev/verb.ts";
import { githubCheck } from "../github/check.ts";
import type { Verb } from "../verb.ts";
import { auditVerbs } from "./audit.ts";
import { commandVerbs } from "./command.ts";
import { completionVerb } from "./completion.ts";
import { directoryVerbs } from "./directory.ts";
import { feedVerb } from "./feed.ts";
import { fleetVerbs } from "./fleet.ts";
import { keyVerbs } from "./keys.ts";
import { loginVerb } from "./login.ts";
import { topVerb } from "./top.ts";
import { vmVerbs } from "./vm.ts";
import { vmDiagnosticsVerbs } from "./vm-diagnostics.ts";

export const verbs: readonly Verb[] = [
  loginVerb,
  ...vmVerbs,
  ...vmDiagnosticsVerbs,
  topVerb,
  feedVerb,
  ...commandVerbs,
  ...fleetVerbs,
  ...directoryVerbs,
  ...keyVerbs,
  ...auditVerbs,
  githubCheck,
  devVerb,
  completionVerb(() => verbs),
];
