#!/usr/bin/env bash
# Whether it is the server that makes a spinning generator late: plays in turns with the server on the other core, and free.
# Run it from a clone, on two cores; prints quantiles in µs.
set -euo pipefail
cargo build --release --locked --bin otelbench --example judge
exec 3< <(exec target/release/examples/judge)
judge=$!
trap 'kill "$judge"' EXIT
read -r addr <&3

play() {
    taskset -cp "$2" "$judge" > /dev/null
    taskset -c "$3" target/release/otelbench load "http://$addr/order" --rps 10000 --duration 5s --pacing spin \
        --body '{"user":"u-1","items":["book"],"quantity":1,"amount":9.5}' --format json |
        python3 -c "
import json, sys
played = json.load(sys.stdin)
wake, late = played['wake_us'], played['lateness_us']
print(f'{sys.argv[1]:6} turned to late p50 {wake[\"p50\"]:5.1f} p99 {wake[\"p99\"]:5.1f}   written late p50 {late[\"p50\"]:5.1f} p99 {late[\"p99\"]:5.1f}')
" "$1"
}

for _ in 1 2 3 4 5; do
    play apart 1 0
    play free 0,1 0,1
done
