#!/bin/sh
# Validates and plans every stack with the real modules: real-modules.sh DIR, with the repositories of terraform-aws-modules'
# vpc 6.6.0, eks 21.19.0 and kms (the version that eks asks for) as DIR/vpc, DIR/eks and DIR/kms.
set -eu
if [ $# -ne 1 ]; then
    echo "skipped: no folder with the real modules was given (usage: $0 DIR)"
    exit 0
fi
DEPLOYCTL_REAL_MODULES=$(cd "$1" && pwd)
export DEPLOYCTL_REAL_MODULES
cd "$(dirname "$0")/../.."
# As make test does, so that nothing is compiled twice.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/deployctl/target}"
exec cargo test --workspace --locked --test terraform real_modules -- --nocapture
