#!/usr/bin/env bash
# Whether two builds of otelbench analyse every stored result alike, bit for bit: `results/same-analysis.sh OLD NEW [CLONE]`,
# from the root of a clone. Each result is reported in every format, compared with itself, and followed in a trend. Prints a line
# for each: "same"; "reworded" where the words differ and every number and verdict is the same, in the same order; or
# "DIFFERENT", which ends in exit code 1. Of JSON every key and every digit counts, and neither blanks nor the order of keys.
# The old build reads the results of CLONE, such as a worktree of an earlier commit. Histograms are left out of what is compared,
# since not all of them are stored any more: what the analysis reads of them shows in the response times of the arms.
set -euo pipefail
usage="usage: results/same-analysis.sh OLD NEW [CLONE]"
old=$(realpath "${1:?$usage}")
new=$(realpath "${2:?$usage}")
clone=${3:-.}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
failed=0

# The exit code, the messages and the output of a command; JSON with sorted keys and its digits as they are.
output() {
    local code=0
    "$@" > "$work/out" 2> "$work/messages" || code=$?
    echo "exit $code"
    cat "$work/messages"
    if [ -s "$work/out" ] && [ "${*: -1}" = json ]; then
        python3 -c '
import json, sys
document = json.load(
    sys.stdin,
    parse_float=lambda digits: "float " + digits,
    object_hook=lambda keys: {key: value for key, value in keys.items() if key != "hdr"},
)
json.dump(document, sys.stdout, indent=0, sort_keys=True, ensure_ascii=False)
' < "$work/out"
    else
        cat "$work/out"
    fi
}

# Numbers and verdicts alone.
findings() {
    grep --only-matching --extended-regexp '[-+−]?[0-9]+([.][0-9]+)?(e-?[0-9]+)?|confirmed|refuted|inconclusive|(in)?valid|degraded' "$1"
}

# Prints how the output of the two builds for these arguments compares.
compared() {
    (cd "$clone" && output "$old" "$@") > "$work/old"
    output "$new" "$@" > "$work/new"
    if cmp --silent "$work/old" "$work/new"; then
        echo "same      "
    elif cmp --silent <(findings "$work/old") <(findings "$work/new"); then
        echo "reworded  "
    else
        echo "DIFFERENT "
    fi
}

# Prints a line for these arguments.
line() {
    local comparison
    comparison=$(compared "$@")
    echo "$comparison $*"
    [[ $comparison != DIFFERENT* ]] || failed=1
}

results=()
for file in results/*.json; do
    grep --quiet --max-count=1 '"schema": *"otelbench\.result/' "$file" || continue
    results+=("$file")
    for format in json table markdown; do
        line report "$file" --format "$format"
        line compare "$file" "$file" --same-machine --format "$format"
    done
done
for format in json table markdown; do
    line trend "${results[@]}" --format "$format"
done
exit "$failed"
