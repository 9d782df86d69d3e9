#!/bin/sh
# Puts actions/runner into an image, unconfigured, where the agent looks for it; and takes out of an image what no two
# VMs may share (runner-contract trap 27: a runner that was configured once makes every VM of the image the same one).
set -eu
umask 022

usage() {
  cat <<'HELP'
Usage: prepare-runner.sh --from FILE|URL --sha256 HEX [--dir DIR] [--root DIR]
       prepare-runner.sh --seal [--dir DIR] [--root DIR]

  --from    the archive of actions/runner (actions-runner-linux-x64-….tar.gz)
  --sha256  what it must be: GitHub tells it in the text of the release
  --dir     where the runner goes (default /opt/actions-runner)
  --seal    the last step before the image is taken: removes registrations, logs and work of a runner, the agent's
            memory and its token
  --root    the image is mounted there (default: this machine)

install.sh comes first: it makes the user actions-runner.
HELP
}
fail() {
  printf 'prepare-runner.sh: %s\n  %s\n' "$1" "$2" >&2
  exit 1
}
say() { printf 'prepare-runner.sh: %s\n' "$*"; }

from='' sha256='' root='' dir=/opt/actions-runner seal=''
while [ $# -gt 0 ]; do
  case $1 in
    --from | --sha256 | --root | --dir)
      if [ $# -lt 2 ] || [ -z "$2" ]; then fail "$1 needs a value." 'See --help.'; fi
      case $1 in --from) from=$2 ;; --sha256) sha256=$2 ;; --root) root=${2%/} ;; --dir) dir=$2 ;; esac
      shift
      ;;
    --seal) seal=yes ;;
    -h | --help) usage; exit 0 ;;
    *) fail "There is no option $1." 'See --help.' ;;
  esac
  shift
done
case $dir in /?*) ;; *) fail "$dir is no absolute path." 'Correct --dir.' ;; esac
target=$root$dir

if [ -n "$seal" ]; then
  # Of any process whose program is below the directory: its registration is in use, and its job would lose its files.
  for exe in /proc/[0-9]*/exe /proc/[0-9]*/cwd; do
    case $(readlink "$exe" 2>/dev/null || :) in
      "$target" | "$target"/*) fail "A process works in $target ($exe)." 'Stop the agent, and wait until its runner has ended.' ;;
    esac
  done
  for name in .runner .runner_migrated .credentials .credentials_migrated .credentials_rsaparams .service _diag _work; do
    rm -rf -- "${target:?}/$name"
  done
  rm -rf -- "$root/var/lib/miglet" "$root/etc/miglet/agent-token" "$root/etc/miglet/join-token"
  say "$target has no registration, the agent no memory and no token. Whatever else makes a machine itself (machine-id, SSH host keys, cloud-init clean) is yours."
  exit 0
fi

[ -n "$from" ] || fail 'Nothing says which runner.' 'Give --from FILE or URL.'
[ -n "$sha256" ] || fail 'Nothing says what the archive must be.' 'Give --sha256; GitHub tells it in the text of the release.'
passwd=$(awk -F: '$1 == "actions-runner" { print $3 ":" $4; exit }' "$root/etc/passwd" 2>/dev/null || :)
[ -n "$passwd" ] || fail "There is no user actions-runner${root:+ in the image}." 'Run install.sh first; an image without systemd-sysusers needs useradd.'
[ "$(id -u)" = 0 ] || fail 'Only root can give the files to another user.' 'Run it with sudo.'
if [ -e "$target/bin" ]; then
  fail "$target has a runner already." "Remove it first (rm -rf $target), when nothing works in it."
fi

mkdir -p -- "$(dirname -- "$target")"
work=$(mktemp -d "$(dirname -- "$target")/.runner.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
case $from in
  http://* | https://*)
    curl --fail --silent --show-error --location --retry 5 --connect-timeout 20 --max-time 1800 --output "$work/archive" "$from" ||
      fail "$from could not be fetched." 'See what curl says above; https_proxy and CURL_CA_BUNDLE are heeded.'
    ;;
  *) cp -- "$from" "$work/archive" || fail "$from cannot be read." 'Correct --from.' ;;
esac
found=$(sha256sum -- "$work/archive" | awk '{ print $1 }')
[ "$found" = "$(printf %s "$sha256" | tr 'A-F' 'a-f')" ] ||
  fail "$from is not what it must be: its SHA-256 is $found and not $sha256." 'Get it again. Nothing was installed.'
mkdir "$work/tree"
tar --extract --gzip --no-same-owner --file="$work/archive" --directory="$work/tree" ||
  fail "$from cannot be unpacked." 'It must be a .tar.gz of actions/runner; see also df.'
if ! [ -x "$work/tree/bin/Runner.Listener" ] || ! [ -x "$work/tree/config.sh" ]; then
  fail "$from holds no bin/Runner.Listener and config.sh." 'Take actions-runner-linux-ARCH-VERSION.tar.gz of the release.'
fi
if [ -e "$work/tree/.runner" ]; then fail "$from holds a configured runner." 'Take the archive as GitHub publishes it.'; fi
chown -R -h "$passwd" "$work/tree"
chmod 0755 "$work/tree"
if [ -d "$target" ]; then
  rmdir -- "$target" || fail "$target is not empty and no runner." 'See what it is, and remove it.'
fi
mv -- "$work/tree" "$target"
say "The runner is in $target. Its libraries are not: run $dir/bin/installdependencies.sh${root:+ inside the image}."
