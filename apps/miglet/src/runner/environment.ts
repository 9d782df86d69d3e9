/** What the runner, and so every job, inherits: an allow-list, because jobs are strangers (go-agent-wire A26). */
export interface RunnerEnvironment {
  /** The agent's environment, from boot/settings; only the allowed names of it are passed on. */
  host: Readonly<Record<string, string | undefined>>;
  /** Chosen by settings: RUNNER_ALLOW_RUNASROOT, GITHUB_ACTIONS_RUNNER_TRACE, … */
  extra?: Readonly<Record<string, string>>;
  /** Another user than the agent's. */
  user?: { uid: number; gid: number; name: string; home: string };
}

const passedOn = [
  "PATH",
  "HOME",
  "USER",
  "LOGNAME",
  "SHELL",
  "LANG",
  "LC_ALL",
  "TZ",
  "TMPDIR",
  "http_proxy",
  "https_proxy",
  "no_proxy",
  "HTTP_PROXY",
  "HTTPS_PROXY",
  "NO_PROXY",
  "SSL_CERT_FILE",
  "SSL_CERT_DIR",
];

export function buildEnvironment(
  environment: RunnerEnvironment,
  more: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const out: Record<string, string> = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  };
  for (const name of passedOn) {
    const value = environment.host[name];
    if (value !== undefined && value !== "") out[name] = value;
  }
  // Without a UTF-8 locale .NET prints other bytes for what is not ASCII (runner-contract §4.6).
  out["LANG"] ??= "C.UTF-8";
  const { user } = environment;
  if (user !== undefined) Object.assign(out, { HOME: user.home, USER: user.name, LOGNAME: user.name });
  const whole = { ...out, ...environment.extra, ...more };
  // The Worker ends what has its own value of it; an agent that has one was started by a job (runner-contract §6.6).
  delete whole["RUNNER_TRACKING_ID"];
  return whole;
}

/** uid and gid for spawn, when the runner runs as another user. */
export function spawnUser(environment: RunnerEnvironment): { uid?: number; gid?: number } {
  return environment.user === undefined ? {} : { uid: environment.user.uid, gid: environment.user.gid };
}
