#!/usr/bin/env bash
# make test: every part in turn (or those named), each with the time that it took. The first failure ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
all=(format lint unit install provider terraform parts faults cloud services image clean e2e)
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=("${all[@]}")
# By hand a test may leave out what it lacks a program for; here that is a failure.
export DEPLOYCTL_TEST_COMPLETE=1
# As the sandbox's installation compiles (tests/sandbox/src/install/go.rs): what both need is then compiled once.
export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false -gcflags=all=-dwarf=false" GOGC=400
tests/prerequisites.sh

# Always the whole workspace: a single package resolves other features of the same dependencies and compiles all of them again.
# clippy's driver is a compiler that also lints. In the compiler's place, for our own crates, it saves compiling everything a second time
# just to look at it: four minutes when cold. What it makes is for these tests only; images and people's builds are rustc's.
checked() {
  CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__ \
    cargo "$1" --workspace --locked --quiet --config 'build.rustc-workspace-wrapper="clippy-driver"' "${@:2}"
}
cargo_test() { checked test "$@"; }

format() {
  cargo fmt --all --check
  local files
  files=$(gofmt -l tests/sandbox/provider tests/sandbox/kube-node)
  [ -z "$files" ] || { printf 'not formatted: %s\n' "$files" >&2 && return 1; }
}
# Compiles all that later parts run, and starts the long installation beside them.
lint() { checked build && cargo_test --no-run && beside; }
unit() { cargo_test --lib --bins --test cli --test boundaries; }
sandbox() { "$CARGO_TARGET_DIR/debug/deployctl-sandbox" "$@"; }

# Ten minutes when cold, beside parts that mostly wait.
installation=
beside() {
  [[ " ${parts[*]} " == *" install "* ]] || return 0
  setsid "$CARGO_TARGET_DIR/debug/deployctl-sandbox" install >"$CARGO_TARGET_DIR/install.log" 2>&1 </dev/null &
  installation=$!
}
install() {
  [ -n "$installation" ] || { sandbox install; return; }
  tail -n +1 -f --pid="$installation" "$CARGO_TARGET_DIR/install.log"
  wait "$installation" && installation=
}
# In a sandbox of its own: every type of resource is made, changed, imported and destroyed there.
provider() (
  cd tests/sandbox/provider
  go vet ./...
  trap 'sandbox --name provider down' EXIT
  sandbox --name provider up
  eval "$(sandbox --name provider env)"
  DEPLOYCTL_TEST_ENDPOINT=$AWS_ENDPOINT_URL go test -count=1 ./...
)
terraform() { cargo_test --test terraform; }
# Single parts against real programs: PostgreSQL, ministack, an API server, a registry.
parts() { cargo_test --test database --test infra --test cluster --test front_door --test rds --test observability; }
# Killed and refused at every call that writes; `make soak` tries more points.
faults() { cargo_test --test faults; }
# Both services in a sandbox of their own: killed, cut off, fed with bad files, attacked; `make soak` does it at length.
services() { cargo_test --test services -- --nocapture; }
# Throttled, silent, cut and lost: the quick lines of tests/cloud/table.rs; `make soak` proves all.
cloud() { cargo_test --test cloud -- --nocapture --test-threads 8; }
image() { cargo_test --test image; }
# Compares the machine before and after; nothing else may run.
clean() { cargo_test --test clean; }
e2e() { cargo_test --test e2e -- --nocapture; }

summary=()
# Also when a part fails: how far it came, and how long that took.
trap '[ -z "$installation" ] || kill -- "-$installation" 2>/dev/null || true; printf "%s\n" "${summary[@]}"' EXIT
for part in "${parts[@]}"; do
  [[ " ${all[*]} " == *" $part "* ]] || { echo "no part $part; there are: ${all[*]}" >&2; exit 10; }
  started=$SECONDS
  echo "== $part"
  "$part"
  summary+=("$(printf '%-10s %4d s' "$part" $((SECONDS - started)))")
done
