#!/bin/sh
# Builds the offline provider and lays it out as a filesystem mirror for Terraform: lay-out.sh MIRROR
set -eu
mirror=$1
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$mirror"
(cd "$here" && go build -trimpath -o "$mirror/provider" .)
for each in aws:6.62.0 tls:4.1.0 time:0.13.0 null:3.2.4 cloudinit:2.3.7; do
  name=${each%%:*} version=${each##*:}
  folder=$mirror/registry.terraform.io/hashicorp/$name/$version/linux_amd64
  mkdir -p "$folder"
  ln -f "$mirror/provider" "$folder/terraform-provider-${name}_v$version"
done
rm "$mirror/provider"
