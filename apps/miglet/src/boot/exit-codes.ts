/**
 * How the process ends, and what a supervisor should make of it (go-agent-wire A10: the predecessor always said 0). `miglet check`
 * ends with 2 when settings are wrong, whatever else is missing, because what is missing depends on them; else with 3.
 */
export const exitCodes = {
  0: "finished: the job is done, or somebody asked for the end",
  2: "the command line or a setting is wrong: correct it; starting again will not help",
  3: "something that the machine must have is missing: see `miglet check`",
  4: "the controller refused this VM, or could not be reached for too long",
  5: "the runner could not be registered or started",
  6: "the runner crashed",
  7: "the version of the runner is too old for GitHub: renew the image",
  70: "a fault in the agent: the last line of the log says which",
  130: "forced to stop by a second SIGINT",
  143: "forced to stop by a second SIGTERM, or because a job outlasted shutdown.force_after",
} as const;
