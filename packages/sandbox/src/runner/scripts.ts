/**
 * The shell half of the stand-in runner, written afresh to the semantics of runner-contract §2.1 and §3.2–§3.4.
 * It is real bash, because signals, `$*` without quotes and exit codes through two shells are what agents trip over.
 * Sleeps are scaled when the scripts are written.
 */
export interface ScriptFile {
  readonly path: string;
  readonly text: string;
}

const findRoot = `SOURCE="\${BASH_SOURCE[0]}"
while [ -h "$SOURCE" ]; do
  DIR="$(cd -P "$(dirname "$SOURCE")" && pwd)"
  SOURCE="$(readlink "$SOURCE")"
  [[ $SOURCE != /* ]] && SOURCE="$DIR/$SOURCE"
done
DIR="$(cd -P "$(dirname "$SOURCE")" && pwd)"
`;

/** The library check of the real script runs on paths relative to the caller's directory; so does this one. */
const config = `#!/bin/bash
if [[ $(id -u) -eq 0 && -z "$RUNNER_ALLOW_RUNASROOT" ]]; then
  echo "Must not run with sudo"
  exit 1
fi
if [[ "$(uname)" == "Linux" && -e ./bin/libcoreclr.so ]]; then
  if ! command -v ldd > /dev/null; then
    echo "Can not find 'ldd'. Please install 'ldd' and try again."
    exit 1
  fi
  if ldd ./bin/libcoreclr.so | grep "not found"; then
    echo "Dependencies is missing for Dotnet Core 6.0"
    echo "Execute sudo ./bin/installdependencies.sh to install any missing Dotnet Core 6.0 dependencies."
    exit 1
  fi
fi
${findRoot}cd "$DIR" || exit 1
source ./env.sh
shopt -s nocasematch
if [[ "$1" == "remove" ]]; then
  ./bin/Runner.Listener "$@"
else
  ./bin/Runner.Listener configure "$@"
fi
`;

const env = `#!/bin/bash
existing=""
if [ -f .env ]; then existing="$(cat .env)"; else touch .env; fi
for name in LANG JAVA_HOME ANT_HOME M2_HOME ANDROID_HOME ANDROID_SDK_ROOT GRADLE_HOME NVM_BIN NVM_PATH LD_LIBRARY_PATH PERL5LIB; do
  if [[ -n "\${!name}" && "$existing" != *"$name="* ]]; then echo "$name=\${!name}" >> .env; fi
done
echo "$PATH" > .path
`;

const run = `#!/bin/bash
${findRoot}toggle="$ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"

copy_helper() { cp -f "$DIR"/run-helper.sh.template "$DIR"/run-helper.sh; }

run() {
  while :; do
    copy_helper
    "$DIR"/run-helper.sh $*
    code=$?
    if [[ $code -eq 2 ]]; then
      echo "Restarting runner..."
    else
      echo "Exiting runner..."
      if [[ $code -eq 7 && "$toggle" == "1" ]]; then exit 7; fi
      exit 0
    fi
  done
}

run_with_manual_trap() {
  set -m
  trap 'kill -INT -$PID' INT TERM
  while :; do
    copy_helper
    "$DIR"/run-helper.sh $* &
    PID=$!
    wait $PID
    code=$?
    if [[ $code -eq 2 ]]; then
      echo "Restarting runner..."
    else
      echo "Exiting runner..."
      trap - INT TERM
      wait $PID
      exit $code
    fi
  done
}

if [[ -n "$RUNNER_UPDATE_CA_CERTS" ]] && command -v update-ca-certificates > /dev/null; then
  update-ca-certificates
fi
if [[ -z "$RUNNER_MANUALLY_TRAP_SIG" ]]; then run $*; else run_with_manual_trap $*; fi
`;

const helper = (relaunch: string, second: string) => `#!/bin/bash
if [[ $(id -u) -eq 0 && -z "$RUNNER_ALLOW_RUNASROOT" ]]; then
  echo "Must not run interactively with sudo"
  exit 1
fi
${findRoot}if [[ "\${RUNNER_WAIT_FOR_DOCKER_IN_SECONDS:-0}" -gt 0 ]]; then
  echo "Waiting for docker to be ready."
  for ((i = 0; i < RUNNER_WAIT_FOR_DOCKER_IN_SECONDS; i++)); do
    if docker ps > /dev/null 2>&1; then
      echo "Docker is ready."
      break
    fi
    "$DIR"/safe_sleep.sh ${second}
  done
fi

"$DIR"/bin/Runner.Listener run $*
code=$?
case $code in
  0)
    echo "Runner listener exit with 0 return code, stop the service, no retry needed."
    exit 0
    ;;
  1)
    echo "Runner listener exit with terminated error, stop the service, no retry needed."
    exit 0
    ;;
  2)
    echo "Runner listener exit with retryable error, re-launch runner in 5 seconds."
    "$DIR"/safe_sleep.sh ${relaunch}
    exit 2
    ;;
  3 | 4)
    echo "Runner listener exit because of updating, re-launch runner after successful update"
    for ((i = 0; i <= 30; i++)); do
      if [ -f update.finished ]; then
        echo "Update finished successfully."
        rm update.finished
        break
      fi
      "$DIR"/safe_sleep.sh ${second}
    done
    exit 2
    ;;
  5)
    echo "Runner listener exit with Session Conflict error, stop the service, no retry needed."
    exit 0
    ;;
  7)
    if [[ "$ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE" == "1" ]]; then
      echo "Runner listener exit with deprecated version exit code: 7."
      exit 7
    fi
    ;;
esac
echo "Exiting with unknown error code: $code"
exit 0
`;

const safeSleep = `#!/bin/bash
if command -v sleep > /dev/null; then
  sleep "$1"
elif command -v ping > /dev/null; then
  ping -c "$1" 127.0.0.1 > /dev/null
else
  read -r -t "$1" <> <(:) || :
fi
`;

const installDependencies = `#!/bin/bash
echo "The stand-in runner has no dependencies."
`;

export function scriptFiles(timeFactor: number): readonly ScriptFile[] {
  const scaled = (seconds: number) => String(Math.max(0.001, Number((seconds * timeFactor).toFixed(3))));
  return [
    { path: "config.sh", text: config },
    { path: "env.sh", text: env },
    { path: "run.sh", text: run },
    { path: "run-helper.sh.template", text: helper(scaled(5), scaled(1)) },
    { path: "safe_sleep.sh", text: safeSleep },
    { path: "bin/installdependencies.sh", text: installDependencies },
  ];
}

/**
 * A program that is bash and JavaScript at once: bash replaces itself by the Node that installed the runner,
 * which skips the second line as a string and a comment. A plain `#!` line can not hold a path with blanks, and
 * `exec -a` keeps `argv[0]` ending in `bin/Runner.Listener`, which is what agents look for in the process table.
 */
export function launcherScript(nodePath: string, programUrl: string, cacheFolder: string): string {
  const quoted = `'${nodePath.replaceAll("'", "'\\''")}'`;
  return `#!/bin/bash
":" //; exec -a "$0" ${quoted} "$0" "$@"
require("node:module").enableCompileCache?.(${JSON.stringify(cacheFolder)});
import(${JSON.stringify(programUrl)});
`;
}
