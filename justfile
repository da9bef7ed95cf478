# What is run often. The checks are steps of .ci/run, which needs no `just`.

_list:
    @just --list --unsorted

# Format, lints and unit tests but the long ones: a minute at most once dependencies are built
quick:
    .ci/run format lint unit

# Every test; a name or other options of `cargo test` may follow
test *options:
    cargo test --locked {{ options }}

# Everything that CI checks, or the steps that are named (`.ci/run --list`)
ci *steps:
    .ci/run {{ steps }}

# Benchmarks: all of them, or as named (`just bench --bench sink`)
bench *options:
    cargo bench --locked {{ options }}

# The command that made each stored result
results:
    @awk -F ' [|] ' '/^\| \[/ { gsub(/^\| |\]\([^)]*\)|\[/, "", $1); printf "%s\n    %s\n", $1, $2 }' results/README.md
