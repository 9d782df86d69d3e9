#!/bin/sh
# Installs the agent on this machine, or into an image: the executable, its systemd units, its user and directories.
# docs/operate/miglet.md tells what comes where. Run again it upgrades, and touches no running job.
set -eu
umask 022

usage() {
  cat <<'HELP'
Usage: install.sh [--from FILE|DIR|URL] [--sha256 HEX] [options]
       install.sh --uninstall [--purge] [--root DIR]

  --from FILE|DIR|URL  the executable, or the directory it is in (default: the one of this script). What it must be is
                       said by SHA256SUMS beside it, or by --sha256. A URL needs --sha256.
  --sha256 HEX         what the executable must be
  --root DIR           install into an image that is mounted at DIR
  --arch x64|arm64     of the image (default: of this machine)
  --block-metadata     close the cloud's metadata service to jobs (needs nftables)
  --start              start the agent; one that runs is replaced, and a job goes on
  --no-enable          at the first installation: do not start the agent when the machine boots
  --uninstall          remove what was installed; settings, state and users stay
  --purge              with --uninstall: remove /etc/miglet and /var/lib/miglet too
HELP
}

say() { printf 'install.sh: %s\n' "$*"; }
# fail WHAT REMEDY
fail() {
  printf 'install.sh: %s\n  %s\n' "$1" "$2" >&2
  exit 1
}

from='' sha256='' root='' arch='' block='' start='' enable=yes uninstall='' purge=''
refuse() {
  printf 'install.sh: %s. See --help\n' "$1" >&2
  exit 2
}
need() { if [ $# -lt 2 ] || [ -z "$2" ]; then refuse "$1 needs a value"; fi; }
while [ $# -gt 0 ]; do
  case $1 in
    --from | --sha256 | --root | --arch) need "$@"; eval "${1#--}=\$2"; shift ;;
    --block-metadata) block=yes ;;
    --start) start=yes ;;
    --no-enable) enable='' ;;
    --uninstall) uninstall=yes ;;
    --purge) purge=yes ;;
    -h | --help) usage; exit 0 ;;
    *) refuse "There is no option $1" ;;
  esac
  shift
done

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ -n "$root" ]; then
  [ -d "$root" ] || fail "$root is no directory." 'Mount the image there, or correct --root.'
  root=$(CDPATH='' cd -- "$root" && pwd)
  [ "$root" != / ] || root=''
fi
is_live() { [ -z "$root" ]; }
is_systemd() { is_live && [ -d /run/systemd/system ]; }
if is_live && [ "$(id -u)" != 0 ]; then
  fail 'Only root can install the agent on this machine.' 'Run it with sudo, or give --root DIR to make an image.'
fi

program=$root/usr/local/bin/miglet
units=$root/usr/local/lib/systemd/system
wants=$root/etc/systemd/system/multi-user.target.wants
settings=$root/etc/miglet
# What is installed below $root, and which file of this directory it is.
files="
usr/local/lib/systemd/system/miglet.service            systemd/miglet.service
usr/local/lib/systemd/system/miglet.slice              systemd/miglet.slice
usr/local/lib/systemd/system/miglet-runner.slice       systemd/miglet-runner.slice
usr/local/lib/systemd/system/miglet-runner-.scope.d/miglet.conf systemd/miglet-runner-.scope.d/miglet.conf
usr/local/lib/sysusers.d/miglet.conf                   systemd/sysusers.conf
usr/local/lib/tmpfiles.d/miglet.conf                   systemd/tmpfiles.conf
"
block_files="
etc/miglet/block-metadata.nft                          systemd/block-metadata.nft
usr/local/lib/systemd/system/miglet.service.d/block-metadata.conf systemd/block-metadata.conf
"

staged=''
clean() { [ -z "$staged" ] || rm -f -- "$staged"; }
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

cannot() { fail "$1 cannot be written." 'See whether the disk is full or read-only (df, mount), and who may write there.'; }

# Under another name first: whoever reads it finds the old file or the new one, whole.
place() { # SOURCE TARGET MODE
  mkdir -p -- "$(dirname -- "$2")" 2>/dev/null || cannot "$2"
  cp -- "$1" "$2.new.$$" 2>/dev/null || cannot "$2"
  chmod "$3" "$2.new.$$"
  mv -f -- "$2.new.$$" "$2"
}

place_all() {
  printf '%s\n' "$1" | while read -r target source; do
    [ -z "$target" ] || place "$here/$source" "$root/$target" 0644
  done
}

remove_all() {
  printf '%s\n' "$1" | while read -r target _; do
    [ -z "$target" ] || rm -f -- "$root/$target"
  done
}

runners() {
  is_systemd || return 0
  systemctl list-units --plain --no-legend --state=active 'miglet-runner-*.scope' | awk '{ print $1 }'
}

if [ -n "$uninstall" ]; then
  working=$(runners)
  if [ -n "$working" ]; then
    fail "A runner works here: $working" 'Let it end first: systemctl stop miglet ends an idle runner, or waits for its job.'
  fi
  if is_systemd; then systemctl disable --now --quiet miglet.service 2>/dev/null || :; fi
  rm -f -- "$wants/miglet.service" "$program"
  remove_all "$files"
  remove_all "$block_files"
  rmdir -- "$units/miglet-runner-.scope.d" "$units/miglet.service.d" 2>/dev/null || :
  if is_live && command -v nft >/dev/null; then nft delete table inet miglet_metadata 2>/dev/null || :; fi
  if is_systemd; then systemctl daemon-reload; fi
  if [ -n "$purge" ]; then rm -rf -- "$settings" "$root/var/lib/miglet"; fi
  say "The agent is removed.${purge:+ Its settings and its state as well.} The user actions-runner stays."
  exit 0
fi

# Everything is looked at before anything is placed.
if [ -z "$arch" ]; then
  case $(uname -m) in
    x86_64) arch=x64 ;;
    aarch64) arch=arm64 ;;
    *) fail "There is no executable for $(uname -m)." 'Use a machine of x86_64 or aarch64, or give --arch for an image.' ;;
  esac
fi
for tool in sha256sum awk cp mv chmod; do
  command -v "$tool" >/dev/null || fail "There is no $tool here." 'Install coreutils and awk.'
done
is_live && ! command -v systemctl >/dev/null &&
  fail 'There is no systemd on this machine.' 'Install systemd, or start the agent by what you have: miglet --config /etc/miglet/miglet.yaml'
if [ -n "$block" ] && ! [ -x "$root/usr/sbin/nft" ]; then
  fail "There is no /usr/sbin/nft${root:+ in the image}, and --block-metadata needs it." 'Install nftables (apt-get install nftables), or leave the option out and give the VM no identity.'
fi
for source in $(printf '%s\n' "$files$block_files" | awk 'NF { print $2 }') miglet.yaml; do
  [ -f "$here/$source" ] || fail "$here/$source is missing." 'Take the whole archive, not this script alone.'
done
if [ -f "$here/SHA256SUMS" ]; then
  (cd "$here" && sha256sum --check --strict --quiet SHA256SUMS >/dev/null 2>&1) ||
    fail "$here is not what its SHA256SUMS says." 'Get the archive again: it is damaged, or somebody has changed it.'
fi

mkdir -p -- "$root/usr/local/bin" 2>/dev/null || cannot "$root/usr/local/bin"
staged=$root/usr/local/bin/.miglet.new.$$
name=miglet-linux-$arch
from=${from:-$here}
case $from in
  http://* | https://*)
    [ -n "$sha256" ] || fail 'Whoever can change what a server sends can change the sums beside it.' \
      'Give --sha256 with the sum that you know from elsewhere.'
    if command -v curl >/dev/null; then
      curl --fail --silent --show-error --location --retry 5 --connect-timeout 20 --max-time 900 --output "$staged" -- "$from" ||
        fail "$from could not be fetched." 'See what curl says above; https_proxy and CURL_CA_BUNDLE are heeded.'
    elif command -v wget >/dev/null; then
      wget --quiet --tries=5 --timeout=60 --output-document="$staged" -- "$from" ||
        fail "$from could not be fetched." 'Try it by hand with wget; https_proxy is heeded.'
    else
      fail 'There is neither curl nor wget here.' 'Install one of them, or copy the executable here and give --from FILE.'
    fi
    ;;
  *)
    if [ -d "$from" ]; then from=${from%/}/$name; fi
    [ -f "$from" ] || fail "There is no $from." 'Make it with npm run package -w apps/miglet, or correct --from.'
    cp -- "$from" "$staged" 2>/dev/null || cannot "$staged"
    if [ -z "$sha256" ]; then
      sums=$(dirname -- "$from")/SHA256SUMS
      [ -f "$sums" ] || fail "There is no $sums, so nobody knows what $from must be." 'Put it there, or give --sha256.'
      sha256=$(awk -v name="$(basename -- "$from")" '$2 == name || $2 == "*" name { print $1; exit }' "$sums")
      [ -n "$sha256" ] || fail "$sums does not name $(basename -- "$from")." 'Take both from the same build, or give --sha256.'
    fi
    ;;
esac
sha256=$(printf %s "$sha256" | tr 'A-F' 'a-f')
found=$(sha256sum -- "$staged" | awk '{ print $1 }')
[ "$found" = "$sha256" ] || fail "$from is not what it must be: its SHA-256 is $found and not $sha256." \
  'Get it again, and the sum from whoever built it. Nothing was installed.'
chmod 0755 "$staged"
version=$arch
if is_live; then
  version=$("$staged" --version) || fail 'The executable does not run on this machine.' \
    "Take the one for $(uname -m), and see whether $root/usr/local/bin is mounted noexec."
fi

was=''
if [ -f "$program" ]; then was=$(sha256sum -- "$program" | awk '{ print $1 }'); fi
place_all "$files"
if [ -n "$block" ]; then place_all "$block_files"; fi
mkdir -p -- "$settings"
chmod 0750 "$settings"
if [ ! -e "$settings/miglet.yaml" ]; then
  place "$here/miglet.yaml" "$settings/miglet.yaml" 0640
  say "Write the settings into $settings/miglet.yaml, or into instance metadata."
fi
mv -f -- "$staged" "$program"
staged=''
# Once: whoever disables it later means it.
if [ -n "$enable" ] && [ -z "$was" ]; then
  mkdir -p -- "$wants"
  ln -sfn /usr/local/lib/systemd/system/miglet.service "$wants/miglet.service"
fi

# In an image without these two the first boot does it.
if [ "$(id -u)" = 0 ] && command -v systemd-sysusers >/dev/null && command -v systemd-tmpfiles >/dev/null; then
  mkdir -p -- "$root/etc"
  systemd-sysusers ${root:+"--root=$root"} miglet.conf ||
    fail 'The user actions-runner could not be made.' 'See what systemd-sysusers says above; a user of this name that you made is fine.'
  systemd-tmpfiles ${root:+"--root=$root"} --create miglet.conf ||
    fail 'The directories could not be made.' 'See what systemd-tmpfiles says above.'
fi
if is_systemd; then
  systemctl daemon-reload
  if [ -n "$block" ]; then
    nft -f /etc/miglet/block-metadata.nft || fail 'The rules for the metadata service cannot be loaded.' \
      'See what nft says above; the agent does not start before that works. Or install without --block-metadata.'
  fi
fi

if [ "$was" = "$sha256" ]; then say "The agent $version was installed already."; else say "The agent $version is installed as $program."; fi
is_systemd || exit 0
if systemctl --quiet is-active miglet.service; then
  if [ "$was" = "$sha256" ]; then exit 0; fi
  if [ -z "$start" ]; then
    say 'The agent that runs is still the old one. To replace it, without harm to a job: systemctl kill --kill-who=main -s KILL miglet'
    exit 0
  fi
  # Not a restart: SIGTERM asks the agent to end its runner. An agent that is killed leaves it alone, and systemd
  # starts the new one, which finds it again.
  systemctl kill --kill-who=main --signal=KILL miglet.service
  say 'The agent is replaced; systemd starts the new one within seconds.'
elif [ -n "$start" ]; then
  systemctl reset-failed miglet.service 2>/dev/null || :
  systemctl start --no-block miglet.service
  say 'The agent starts. See journalctl -u miglet.'
fi
