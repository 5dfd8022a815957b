#!/usr/bin/env bash
# What cargo needs before there is a deployctl-sandbox that installs the rest: a C compiler and its headers, for aws-lc and linking.
# openssl makes the certificates of tests/cluster.
set -euo pipefail
missing=()
command -v cc >/dev/null || missing+=(gcc)
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
command -v openssl >/dev/null || missing+=(openssl)
[ ${#missing[@]} -gt 0 ] || exit 0
[ "$(id -u)" -eq 0 ] || { echo "missing Debian packages: ${missing[*]}; next: the same command as root" >&2; exit 12; }
echo "installing Debian packages: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install --yes -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}"
