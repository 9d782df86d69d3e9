#!/bin/sh
# Puts a fresh grant into the metadata of one instance, for an agent with github.token_source: metadata. For an
# operator's machine or a cron job there, never for the VM itself: it needs the right to change instances.
#   refresh-grant.sh gcp INSTANCE ZONE
#   refresh-grant.sh aws INSTANCE_ID
# Where the grant is from:
#   MIG_CONTROLLER=https://mig.example.com   the controller, for a VM that has said vm_started; no other gets one there
#     MIG_VM_ID              the VM's id there; INSTANCE without it
#     MIG_AGENT_TOKEN_FILE   the bearer token of agents; without it none is sent
#   RUNNER_URL=https://github.com/acme       GitHub, for a VM that has not booted yet, by gh, whose user may add runners
set -eu
umask 077
fail() {
  printf 'refresh-grant: %s\n  %s\n' "$1" "$2" >&2
  exit 1
}
need() {
  command -v "$1" >/dev/null || fail "$1 is not here." "Install $1."
}
cloud=${1:-}
case $cloud in
  gcp) [ $# -eq 3 ] || fail 'gcp needs INSTANCE ZONE.' 'refresh-grant.sh gcp runner-vm-1 europe-west1-b' ;;
  aws) [ $# -eq 2 ] || fail 'aws needs INSTANCE_ID.' 'refresh-grant.sh aws i-0123456789abcdef0' ;;
  *) fail 'The first argument is the cloud.' 'Write gcp or aws.' ;;
esac
instance=$2
need jq

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

from_controller() {
  need curl
  : >"$work/curl"
  # By a file: every user of this machine can read arguments.
  if [ -n "${MIG_AGENT_TOKEN_FILE:-}" ]; then
    printf 'header = "authorization: Bearer %s"\n' "$(cat "$MIG_AGENT_TOKEN_FILE")" >"$work/curl"
  fi
  status=$(curl --config "$work/curl" --silent --show-error --max-time 60 --retry 5 --retry-connrefused \
    --output "$work/answer" --write-out '%{http_code}' --header 'content-type: application/json' --data '{}' \
    "${MIG_CONTROLLER%/}/api/v1/vms/${MIG_VM_ID:-$instance}/registration-token") ||
    fail 'The controller could not be reached.' "See what curl says above; is $MIG_CONTROLLER right?"
  [ "$status" = 200 ] || fail "The controller answered $status." "$(head -c 2000 "$work/answer")"
  jq -c 'with_entries(select(.value != "" and .value != null))' "$work/answer" >"$work/grant"
}

from_github() {
  need gh
  # Of an organization, or of one repository.
  path=${RUNNER_URL#https://*/}
  host=${RUNNER_URL#https://}
  case $path in
    */*) place=repos/$path ;;
    *) place=orgs/$path ;;
  esac
  GH_HOST=${host%%/*} gh api --method POST "$place/actions/runners/registration-token" >"$work/answer" ||
    fail "gh got no token for $RUNNER_URL." 'gh auth status: its user must be allowed to add runners there.'
  jq -c --arg url "$RUNNER_URL" '{registration_token: .token, runner_url: $url, expires_at}' "$work/answer" >"$work/grant"
}

if [ -n "${MIG_CONTROLLER:-}" ]; then
  from_controller
elif [ -n "${RUNNER_URL:-}" ]; then
  from_github
else
  fail 'Neither MIG_CONTROLLER nor RUNNER_URL is set.' 'Say where the grant is from: see the head of this file.'
fi

name=github-registration_token
if [ "$cloud" = gcp ]; then
  need gcloud
  gcloud compute instances add-metadata "$instance" --zone "$3" --metadata-from-file "$name=$work/grant" ||
    fail "gcloud could not write the attribute $name." 'It needs compute.instances.setMetadata on the instance.'
else
  need aws
  # Group and labels are left out: they may be in the settings of the agent.
  jq -j -c 'del(.runner_group, .labels)' "$work/grant" >"$work/tag"
  [ "$(wc -c <"$work/tag")" -le 256 ] ||
    fail 'The grant is too long for a tag.' 'A JIT config always is: let the pool have registration: token.'
  jq -n --arg id "$instance" --arg name "$name" --rawfile value "$work/tag" \
    '{Resources: [$id], Tags: [{Key: $name, Value: $value}]}' >"$work/tags"
  aws ec2 create-tags --cli-input-json "file://$work/tags" ||
    fail "aws could not write the tag $name." 'It needs ec2:CreateTags on the instance.'
fi
printf 'refresh-grant: %s has a grant until %s\n' "$instance" "$(jq -r .expires_at "$work/grant")"
