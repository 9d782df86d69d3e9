#!/bin/sh
# Puts an executable and all that installs it into one archive with one SHA-256: what a startup script fetches and
# checks. The same files give the same bytes.
set -eu
umask 022

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
package=$here/../dist/package out='' archs=''
fail() {
  printf 'bundle.sh: %s\n  %s\n' "$1" "$2" >&2
  exit 1
}
while [ $# -gt 0 ]; do
  case $1 in
    --package | --out | --arch)
      [ $# -ge 2 ] || fail "$1 needs a value." 'See --help.'
      case $1 in --package) package=$2 ;; --out) out=$2 ;; --arch) archs="$archs $2" ;; esac
      shift
      ;;
    -h | --help)
      cat <<'HELP'
Usage: bundle.sh [--package DIR] [--out DIR] [--arch x64|arm64]…

  --package DIR  where miglet-linux-* and SHA256SUMS are (default: what npm run package -w apps/miglet makes)
  --out DIR      where the archives go (default: the same)
  --arch         one platform (default: those that are there)

Makes miglet-linux-ARCH.tar.gz and prints its SHA-256.
HELP
      exit 0
      ;;
    *) fail "There is no option $1." 'See --help.' ;;
  esac
  shift
done
[ -f "$package/SHA256SUMS" ] || fail "There is no $package/SHA256SUMS." 'Run npm run package -w apps/miglet first, or correct --package.'
package=$(CDPATH='' cd -- "$package" && pwd)
out=${out:-$package}
mkdir -p -- "$out"
if [ -z "$archs" ]; then
  for arch in x64 arm64; do
    if [ -f "$package/miglet-linux-$arch" ]; then archs="$archs $arch"; fi
  done
fi

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
for arch in $archs; do
  name=miglet-linux-$arch
  [ -f "$package/$name" ] || fail "There is no $package/$name." "Make it: npm run package -w apps/miglet -- --target linux-$arch"
  grep " $name\$" "$package/SHA256SUMS" | (cd "$package" && sha256sum --check --strict --quiet -) ||
    fail "$package/$name is not what SHA256SUMS says." 'Make both again.'
  tree=$work/$arch/miglet
  mkdir -p -- "$tree"
  cp -R -- "$here/install.sh" "$here/miglet.yaml" "$here/systemd" "$here/image" "$package/$name" "$tree"
  find "$work/$arch" -type d -exec chmod 0755 {} +
  find "$work/$arch" -type f -exec chmod 0644 {} +
  chmod 0755 "$tree/install.sh" "$tree/image/prepare-runner.sh" "$tree/$name"
  (cd "$tree" && find . -type f | LC_ALL=C sort | sed 's,^\./,,' | tr '\n' '\0' | xargs -0 sha256sum) >"$work/sums"
  mv -- "$work/sums" "$tree/SHA256SUMS"
  chmod 0644 "$tree/SHA256SUMS"
  tar --create --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mtime=@0 --directory="$work/$arch" miglet |
    gzip --no-name >"$out/$name.tar.gz.new.$$"
  mv -f -- "$out/$name.tar.gz.new.$$" "$out/$name.tar.gz"
  printf '%s  %s\n' "$(sha256sum -- "$out/$name.tar.gz" | awk '{ print $1 }')" "$out/$name.tar.gz"
done
