#!/usr/bin/env bash
# Builds the program with three release profiles and measures each in turns; what it prints is release-profile.txt.
# Takes a quarter of an hour on two cores. Run it from the root of a clone.
set -euo pipefail
work=$(mktemp -d)
build() {
    local name=$1
    shift
    local started=$SECONDS
    env "$@" CARGO_TARGET_DIR="$work/$name" cargo build --release --locked --quiet
    echo "$name: clean build $((SECONDS - started)) s, $(stat -c %s "$work/$name/release/otelbench") bytes"
}
build off CARGO_PROFILE_RELEASE_LTO=off
build thin CARGO_PROFILE_RELEASE_LTO=thin
build fat CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
for turn in 1 2 3; do
    for name in off thin fat; do
        echo "== $name, turn $turn"
        "$work/$name/release/otelbench" run --rps 10000 --mode full --rounds 4 --no-placebo --quiet \
            --out "$work/$name-$turn.json" | grep -E '^(none|full) '
    done
done
rm -r "$work"
