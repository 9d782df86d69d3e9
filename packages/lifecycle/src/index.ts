export {
  type AccessObject,
  type Action,
  accessTable,
  actions,
  type Caller,
  judgeAccess,
  type OperatorRole,
  operatorRoles,
  type Party,
  parties,
  type Reach,
  type Verdict,
} from "./access.ts";
export { type AgentState, agentMoves, agentStates, isAgentState, mayMove } from "./agent-state.ts";
export {
  type CommandInput,
  type CommandState,
  commandInputs,
  commandStates,
  commandTable,
  isFinished,
  nextCommandState,
  statesThatAccept,
  supersedingTypes,
} from "./command-state.ts";
export {
  type ErrorCategory,
  type ErrorCode,
  type ErrorDetails,
  errorCategories,
  errorCodes,
  isRetryable,
  MigError,
} from "./errors.ts";
export {
  brakedWriteOffs,
  isMassLoss,
  type Reachability,
  reachabilities,
  reachabilityAfter,
  type SilenceBounds,
} from "./reachability.ts";
export {
  isTerminal,
  nextVmState,
  reportOf,
  type VmInput,
  type VmReport,
  type VmState,
  vmInputs,
  vmReports,
  vmStates,
  vmTable,
} from "./vm-state.ts";
