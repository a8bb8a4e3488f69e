#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# fuzz.sh TIME [LOG]: runs every fuzz target of the main module for so long, such as 10s; "60s/all" shares a time out among
# all of them. A line for each (package, target, executions, seconds of processor time) goes to LOG, if there is one. What
# a target fails with is in its package's testdata/fuzz; the others run all the same. FUZZPARALLEL is how many workers a
# target has.
# fuzz.sh -sum LOG: adds the lines of a log up, as rows of docs/fuzzing.md.
set -euo pipefail
if [ "$1" = -sum ]; then
	awk '{key = "`" substr($1, 3) "` `" $2 "`"; runs[key] += $3; time[key] += $4; all += $3; took += $4; if ($5 != "ok") failed[key]++}
		END {for (key in runs) printf "| %s | %d | %d s | %d |\n", key, runs[key], time[key], failed[key] | "sort"
		close("sort"); printf "| all | %d | %d s | |\n", all, took}' "$2"
	exit
fi
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
log=${2:-/dev/null}
targets=$(grep -rlE '^func Fuzz' --include '*_test.go' . | sort | while read -r file; do
	grep -oE '^func Fuzz[A-Za-z0-9_]*' "$file" | while read -r _ target; do echo "$(dirname "$file") $target"; done
done)
each=$1
if [[ $each == */all ]]; then
	whole=${each%s/all}
	each=$(((whole + $(wc -l <<<"$targets") - 1) / $(wc -l <<<"$targets")))s
fi
out=$(mktemp)
trap 'rm -f "$out" "$out.times"' EXIT
failed=0
# Up to Go 1.26 the end of -fuzztime may itself be reported as a failure, without an input (go.dev/issue/75804).
only_time_is_up() { grep -q '^    context deadline exceeded$' "$out" && ! grep -qE 'Failing input|panic:|_test.go:' "$out"; }
# clock sets now to the processor time of all that has run and ended so far, in seconds. times must not be in a subshell.
clock() {
	times >"$out.times"
	now=$(awk -F '[ms ]' 'NR == 2 {print int(60 * ($1 + $4) + $2 + $5)}' "$out.times")
}
while read -r package target; do
	clock
	begun=$now
	if go test -run '^$' -fuzz "^$target\$" -fuzztime "$each" ${FUZZPARALLEL:+-parallel "$FUZZPARALLEL"} "$package" >"$out" 2>&1 || only_time_is_up; then
		verdict=ok
	else
		verdict=FAIL failed=1
		cat "$out"
	fi
	executions=$(grep -oE 'execs: [0-9]+' "$out" | tail -n 1 | cut -d' ' -f2 || true)
	clock
	took=$((now - begun))
	echo "fuzz: $verdict $package $target: ${executions:-0} executions in $took s of processor time"
	echo "$package $target ${executions:-0} $took $verdict" >>"$log"
done <<<"$targets"
exit $failed
