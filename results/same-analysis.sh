#!/usr/bin/env bash
# Whether two builds of otelbench analyse every stored result alike, bit for bit: `results/same-analysis.sh OLD NEW`, from
# the root of a clone. Each result is reported in every format, compared with itself, and followed in a trend; of JSON every
# key, its place and every digit must be the same, and only blanks may differ. Prints a line for each file, and exits with 1
# on a difference.
set -euo pipefail
old=${1:?usage: results/same-analysis.sh OLD NEW}
new=${2:?usage: results/same-analysis.sh OLD NEW}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
failed=0

# What a build prints: the exit code, the messages, and the output, JSON without its blanks.
say() {
    local code=0
    "$@" > "$work/out" 2> "$work/messages" || code=$?
    echo "exit $code"
    cat "$work/messages"
    if [[ " $* " == *" json "* ]]; then
        python3 -c '
import json, sys
text = sys.stdin.read()
if text:
    json.dump(json.loads(text, parse_float=lambda digits: "float " + digits), sys.stdout, indent=0)
' < "$work/out"
    else
        cat "$work/out"
    fi
}

# Whether both builds print the same for these arguments.
same() {
    say "$old" "$@" > "$work/old"
    say "$new" "$@" > "$work/new"
    cmp --silent "$work/old" "$work/new"
}

results=()
for file in results/*.json; do
    grep --quiet --max-count=1 '"schema": *"otelbench\.result/' "$file" || continue
    results+=("$file")
    differs=()
    for format in json table markdown; do
        same report "$file" --format "$format" || differs+=("report --format $format")
        same compare "$file" "$file" --same-machine --format "$format" || differs+=("compare --format $format")
    done
    if [ ${#differs[@]} -eq 0 ]; then
        echo "same       $file"
    else
        echo "DIFFERENT  $file: $(IFS=,; echo "${differs[*]}")"
        failed=1
    fi
done
for format in json table markdown; do
    if same trend "${results[@]}" --format "$format"; then
        echo "same       trend of ${#results[@]} results, $format"
    else
        echo "DIFFERENT  trend of ${#results[@]} results, $format"
        failed=1
    fi
done
exit "$failed"
