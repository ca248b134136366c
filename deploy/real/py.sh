#!/usr/bin/env bash
# py.sh makes the Python environment that holds Weir's outside readers (delta-rs,
# DuckDB with its Delta extension, PyArrow) and prints its interpreter.
#
#	deploy/real/py.sh            make it if it is absent or of other versions
#	deploy/real/py.sh path       print the interpreter, fail if it was not made
#
# It may be called at the same time by several tests: the first makes it, the
# others wait. An interrupted run leaves nothing that a later one would believe.
set -euo pipefail

PINS="deltalake==1.6.6 duckdb==1.5.5 duckdb-extension-delta==1.5.5 pyarrow==26.0.1"

root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
real=$root/.real
venv=$real/py
stamp=$venv/.pins

case "${1:-make}" in
path)
	[ "$(cat "$stamp" 2>/dev/null)" = "$PINS" ] || { echo "py.sh: $venv is not made: run deploy/real/py.sh" >&2; exit 1; }
	echo "$venv/bin/python3"
	exit 0
	;;
make) ;;
*)
	echo "py.sh: unknown command '$1': want make or path" >&2
	exit 2
	;;
esac

command -v python3 >/dev/null || { echo "py.sh: python3 is missing: install python3 with its venv module" >&2; exit 1; }
mkdir -p "$real"
exec 9>"$real/py.lock"
flock 9
if [ "$(cat "$stamp" 2>/dev/null)" != "$PINS" ]; then
	echo "py.sh: installing $PINS into $venv" >&2
	rm -rf "$venv"
	python3 -m venv "$venv"
	# shellcheck disable=SC2086 # the pins are separate words
	"$venv/bin/pip" install -q --disable-pip-version-check --no-input $PINS >&2
	"$venv/bin/python3" -c 'import deltalake, duckdb, duckdb_extension_delta, pyarrow' 2>/dev/null ||
		"$venv/bin/python3" -c 'import deltalake, duckdb, pyarrow'
	printf %s "$PINS" >"$stamp"
fi
echo "$venv/bin/python3"
