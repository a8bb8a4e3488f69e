#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every generator in a copy of the tree and compares, so that the developer's files are never edited and the tree
# need not be clean. Then shows that the lint fence fails when it is crossed.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' f; do [ ! -e "$f" ] || printf '%s\0' "$f"; done |
	tar --null -T - -c | tar -x -C "$copy"

same() { # same WHAT PATH...: the copy's paths are the tree's
	local what=$1 path
	shift
	for path; do
		diff -ru --new-file "$path" "$copy/$path" || { echo "verify: $path is not what its source says: run '$what'" >&2; exit 1; }
	done
	echo "verify: $what: nothing to do"
}
make -s -C "$copy" generate manifests
same "make generate" api internal/meshconfig internal/signedconfig internal/controlapi
same "make manifests" config/crd config/rbac
make -s -C "$copy" bundle
same "make bundle" bundle
for m in . tools tools/proto tools/lint tools/images tools/olm tools/conformance test/cluster test/cluster/certmanager; do
	(cd "$copy/$m" && go mod tidy)
	same "go mod tidy in $m" "$m/go.mod" "$m/go.sum"
done

echo 'package table

import _ "k8s.io/apimachinery/pkg/types"' >"$copy/proxy/table/crossing.go"
if (cd "$copy" && go tool -modfile="$copy/tools/lint/go.mod" golangci-lint run --enable-only depguard ./proxy/table) >"$copy/lint.log" 2>&1; then
	echo "verify: depguard let proxy/table import k8s.io/apimachinery" >&2
	exit 1
fi
grep -q 'the proxy is slim' "$copy/lint.log" || { cat "$copy/lint.log" >&2; exit 1; }
echo "verify: depguard refuses Kubernetes in the proxy"
