#!/usr/bin/env bash
# lint.sh runs every static check: gofmt, go vet, staticcheck at a pinned version,
# and the rules of the house (internal/lint). It reports all of them before it
# fails.
#
#	deploy/real/lint.sh [PACKAGE...]     ./... if none is given
#	deploy/real/lint.sh install          build staticcheck, once
set -uo pipefail

VERSION=v0.8.2

root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel) || exit 1
bin=$root/.real/bin/staticcheck
cd "$root" || exit 1

# A binary built by an older Go cannot read newer code, so it is rebuilt with Go.
current() { [ -x "$bin" ] && go version -m "$bin" | grep -q "honnef.co/go/tools.*$VERSION" && go version -m "$bin" | head -n 1 | grep -q "$(go env GOVERSION)"; }

install() {
	current && return
	mkdir -p "$root/.real/bin"
	(
		flock 9
		current && exit 0
		echo "lint.sh: building staticcheck $VERSION" >&2
		cd "$root/.real" && GOBIN="$root/.real/bin" GOFLAGS= go install "honnef.co/go/tools/cmd/staticcheck@$VERSION" >&2
	) 9>"$root/.real/lint.lock" || { echo "lint.sh: staticcheck $VERSION was not built" >&2; exit 1; }
}

install
[ "${1:-}" = install ] && exit 0
[ $# -eq 0 ] && set -- ./...

failed=0
check() { # name, command...
	local name=$1 out
	shift
	if ! out=$("$@" 2>&1) || { [ "$name" = gofmt ] && [ -n "$out" ]; }; then
		printf '%s:\n%s\n' "$name" "$out"
		failed=1
	fi
}

mapfile -t folders < <(go list -e -f '{{.Dir}}' "$@")
[ ${#folders[@]} -gt 0 ] || { echo "lint.sh: no packages match $*" >&2; exit 1; }
mapfile -t files < <(find "${folders[@]}" -maxdepth 1 -name '*.go')
check gofmt gofmt -l "${files[@]}"
check "go vet" go vet "$@"
# ST1005: errors of options begin with the name of the field, which is exported.
check staticcheck "$bin" -checks inherit,-ST1005 "$@"
check "house rules" go test -count=1 ./internal/lint
if command -v shellcheck >/dev/null; then
	check shellcheck shellcheck deploy/real/*.sh
fi
[ $failed -eq 0 ] && echo "lint: clean"
exit $failed
