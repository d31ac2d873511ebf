#!/bin/sh
# Compares the contracts with the last landed version: the image in protos/landed.binpb, which is renewed at a landing by
# `scripts/proto-breaking.sh --accept` (a deliberate break needs an ADR).
set -eu
buf=$(pwd)/.venv/bin/buf
cd protos
if [ "${1:-}" = "--accept" ]; then
    exec "$buf" build --exclude-source-info -o landed.binpb
fi
"$buf" breaking --against landed.binpb
