#!/bin/sh
# User data of an AWS launch template: installs the agent, once, and starts it. Not needed where the image has it.
# Instance tags in the metadata must be allowed (InstanceMetadataTags=enabled); three of them are for this script:
#   miglet-install-url     the archive that apps/miglet/deploy/bundle.sh has made
#   miglet-install-sha256  what it must be: whoever can change the bucket cannot change the template
#   miglet-install-block-metadata  false leaves the metadata service open to jobs
# The settings of the agent are tags too (miglet-pool-id, miglet-controller-endpoint, …); it reads them itself.
set -eu
umask 022

metadata=${MIGLET_METADATA_ENDPOINT:-http://169.254.169.254}
root=${MIGLET_INSTALL_ROOT:-}
fail() {
  printf 'miglet: %s\n  %s\n' "$1" "$2" >&2
  exit 1
}
# IMDSv2 only (reliability-security F12): where it is required, nobody gets an answer without a token.
token=$(curl --fail --silent --show-error --noproxy '*' --retry 5 --retry-connrefused --max-time 10 --request PUT \
  --header 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$metadata/latest/api/token") ||
  fail 'The metadata service gives no token.' 'Is this an AWS machine, and HttpEndpoint enabled? In a container the hop limit is in the way.'
# Empty when nobody sets it.
attribute() {
  answer=$(printf 'header = "X-aws-ec2-metadata-token: %s"\n' "$token" | curl --config - --silent --show-error --noproxy '*' \
    --retry 5 --retry-connrefused --max-time 10 --write-out '\n%{http_code}' "$metadata/latest/meta-data/tags/instance/$1") ||
    fail "The metadata service does not answer for $1." 'Look at the metadata options of the instance.'
  case $(printf '%s\n' "$answer" | tail -n 1) in
    200) printf '%s\n' "$answer" | sed '$d' ;;
    404) ;;
    *) fail "The metadata service answers $(printf '%s\n' "$answer" | tail -n 1) for $1." 'Look at the metadata options of the instance.' ;;
  esac
}

url=$(attribute miglet-install-url)
sha256=$(attribute miglet-install-sha256)
block=$(attribute miglet-install-block-metadata)
[ -n "$url" ] || fail 'The tag miglet-install-url is not there.' 'Set it in the launch template, and InstanceMetadataTags to enabled.'
case $sha256 in
  *[!0-9a-f]* | '') fail 'The tag miglet-install-sha256 is no SHA-256 in small letters.' 'Set it to what bundle.sh has printed.' ;;
esac

# cloud-init runs this once; somebody may run it again.
stamp=$root/usr/local/share/miglet/archive.sha256
if [ "$(cat "$stamp" 2>/dev/null || :)" = "$sha256" ] && [ -x "$root/usr/local/bin/miglet" ]; then
  echo 'miglet: This archive is installed already.'
  if [ -z "$root" ]; then systemctl start --no-block miglet; fi
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
curl --fail --silent --show-error --location --retry 10 --connect-timeout 20 --max-time 900 --output "$work/archive" "$url" ||
  fail "$url could not be fetched." 'See what curl says above. The VM needs a way there: a public address, a NAT gateway or a proxy (https_proxy).'
found=$(sha256sum "$work/archive" | cut -d ' ' -f 1)
[ "$found" = "$sha256" ] ||
  fail "$url is not what miglet-install-sha256 says: it is $found." 'Nothing of it was run. Set the tag together with the URL, or see who changed the file.'
tar --extract --gzip --file="$work/archive" --directory="$work"
set --
if [ "$block" != false ]; then set -- --block-metadata; fi
if [ -n "$root" ]; then set -- "$@" --root "$root"; fi
"$work/miglet/install.sh" --start "$@"
mkdir -p "$(dirname "$stamp")"
printf '%s\n' "$sha256" >"$stamp"
