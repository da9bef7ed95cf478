#!/usr/bin/env bash
# Whether `run --against` tells a regression of about 5 % from an unchanged rebuild: this commit is built three times, once
# with regression.patch, and each of the other two is held against the first, ten times in turns. Run it from a clone;
# prints the commit, and the exit code and the gate of each run. Remove target/against to build anew; with 0 it only builds.
set -euo pipefail
runs=${1:-10}
here=$PWD/target/against
mkdir -p "$here"
for build in base rebuilt regressed; do
    if [ ! -e "$here/otelbench-$build" ]; then
        git worktree add --detach "$here/$build" HEAD > /dev/null
        [ "$build" != regressed ] || git -C "$here/$build" apply "$PWD/results/regression.patch"
        (cd "$here/$build" && CARGO_TARGET_DIR=$here/target cargo build --quiet --release --locked)
        cp "$here/target/release/otelbench" "$here/otelbench-$build"
    fi
done
git -C "$here/base" rev-parse HEAD
for run in $(seq "$runs"); do
    for build in rebuilt regressed; do
        code=0
        report=$("$here/otelbench-$build" run --mode full --against "$here/otelbench-base" --no-placebo \
            --rounds 16 --slices 1 --slice 600ms --warmup 200ms --seed "$run" \
            --max-regression cpu_us_per_request:full=1% --out "$here/$build-$run.json" --quiet 2> /dev/null) || code=$?
        printf '%-9s run %2d  exit %d  %s\n' "$build" "$run" "$code" "$(grep '^Gate' <<< "$report" || true)"
    done
done
