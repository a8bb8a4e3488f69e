#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs bin/e2e.test on the local cluster, freshly made: run.sh [TEST FLAGS]. On a failure the logs of every pod are in
# dist/e2e, and with KEEP=1 the cluster stays up.
set -euo pipefail
cd "$(dirname "$0")/../.."
cluster="bin/cluster"
export HEDDLE_CLUSTER_HOME=${HEDDLE_CLUSTER_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/heddle/cluster}
mkdir -p dist/e2e
finish() {
	local status=$?
	if [ $status != 0 ]; then
		echo "e2e: collecting logs in dist/e2e" >&2
		$cluster in kubectl get pods -A -o wide >dist/e2e/pods.txt 2>&1 || true
		$cluster in kubectl get trafficsplits,serviceprofiles,meshpolicies -A -o yaml >dist/e2e/objects.yaml 2>&1 || true
		$cluster in kubectl get events -A --sort-by=.lastTimestamp >dist/e2e/events.txt 2>&1 || true
		$cluster in bash -c 'cd dist/e2e && kubectl get pods -A --no-headers -o custom-columns=:.metadata.namespace,:.metadata.name | while read -r ns name; do kubectl -n "$ns" logs "$name" --all-containers --prefix --tail 2000 >"$ns.$name.log" 2>&1; done' || true
	fi
	[ -n "${KEEP:-}" ] || $cluster down
	exit $status
}
trap finish EXIT
$cluster down
$cluster up
$cluster load dist/images/*.tar
$cluster in bin/e2e.test -test.v -test.failfast -test.timeout 40m -root "$PWD" "$@"
