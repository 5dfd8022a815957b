#!/usr/bin/env bash
# make demo: from a clean checkout to both services deployed in a sandbox. A second run changes nothing and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${CARGO_TARGET_DIR:=${XDG_CACHE_HOME:-$HOME/.cache}/deployctl/target}"
export CARGO_TARGET_DIR
name=${SANDBOX:-demo}
deployctl=$CARGO_TARGET_DIR/debug/deployctl
sandbox=$CARGO_TARGET_DIR/debug/deployctl-sandbox

part() { printf '== %s\n' "$*" >&2; }

# With nothing on standard input, --keep-existing succeeds only on a secret that has a value: 10 says that there is none.
has_secret() {
  local code=0 said
  said=$("$deployctl" secret set "$1" -e sandbox --keep-existing 2>&1 </dev/null) || code=$?
  case $code in
    0) return 0 ;;
    10) return 1 ;;
    *) printf '%s\n' "$said" >&2 && exit "$code" ;;
  esac
}

set_secret() { "$deployctl" secret set "$1" -e sandbox >&2; }

tests/prerequisites.sh

part "building deployctl and the sandbox (minutes when cold)"
cargo build --workspace --locked

part "bringing the sandbox $name up (installs what is missing; minutes when cold)"
"$sandbox" --name "$name" up
eval "$("$sandbox" --name "$name" env)"

part "secrets: only those that are missing"
has_secret kafka || "$sandbox" --name "$name" kafka-credentials | set_secret kafka
# The smoke test's token is made once and kept in Secrets Manager only. uploader-tokens is written last: a run that was
# interrupted between the two starts over with a new token that nobody knows yet.
if ! has_secret uploader-tokens; then
  token=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
  printf %s "$token" | set_secret smoke-token
  printf 'smoke:%s\n' "$(printf %s "$token" | sha256sum | cut -d' ' -f1)" | set_secret uploader-tokens
  unset token
elif ! has_secret smoke-token; then
  echo "uploader-tokens has a value and smoke-token has none; next: set smoke-token to a token whose SHA-256 is in uploader-tokens" >&2
  exit 10
fi

part "deployctl plan -e sandbox"
"$deployctl" plan -e sandbox
part "deployctl apply -e sandbox --yes (the first one compiles the services: minutes when cold)"
"$deployctl" apply -e sandbox --yes

cat >&2 <<END

Try next, in this folder:
  eval "\$($sandbox --name $name env)"; $deployctl status -e sandbox
  $sandbox --name $name exec psql
  $sandbox --name $name down
END
