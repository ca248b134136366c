# lib.sh is what the object-store servers of this folder have in common; s3.sh, gcs.sh
# and azure.sh source it. It is no command.
#
# The script sets what its server is:
#
#	cmd, port       what was asked for
#	name            the server's folder below .real, and the name of its lock
#	process         a word of its command line, by which a pid is known to be its own
#
# and defines
#
#	install         fetch or build the server, once
#	spawn           start it in the background, its output to $dir/log, and print its pid
#	ready           exit 0 when it answers, having made what tests find there
#	environment     print what tests read
#
# then calls serve.
set -euo pipefail

root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
real=$root/.real
dir=$real/$name/s-$port
endpoint=http://127.0.0.1:$port

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# usage prints the comment at the script's head.
usage() {
	sed -n '2,/^[^#]/{/^[^#]/d;s/^# \{0,1\}//;p}' "$0" >&2
	exit 2
}

running() { [ -s "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null && grep -q "$process" "/proc/$(cat "$dir/pid")/cmdline" 2>/dev/null; }

# alone MESSAGE COMMAND... says what is done and does it, one caller at a time.
alone() {
	mkdir -p "$real"
	exec 9>"$real/$name.lock"
	flock 9
	echo "$(basename "$0"): $1" >&2
	"${@:2}" >&2
	exec 9>&-
}

# goinstall PACKAGE VERSION MINUTES builds a Go program into .real/bin, unless the one
# there is of this version.
goinstall() {
	local bin
	bin=$real/bin/$(basename "$1")
	[ -x "$bin" ] && go version -m "$bin" | grep -q "^[[:space:]]*mod.*[[:space:]]$2[[:space:]]" && return
	command -v go >/dev/null || die "go is missing: install Go"
	alone "building $(basename "$1") $2, about $3 minutes" gobuild "$1@$2"
}

gobuild() { (cd "$real" && GOBIN="$real/bin" GOFLAGS= go install "$1"); }

start() {
	install
	mkdir -p "$dir/data"
	exec 8>"$dir/lock"
	flock 8
	running || spawn >"$dir/pid"
	local i
	for ((i = 0; i < 600; i++)); do
		ready && { echo "$endpoint"; return; }
		kill -0 "$(cat "$dir/pid")" 2>/dev/null || die "the server died: $(tail -n 5 "$dir/log")"
		sleep 0.05
	done
	die "not ready after 30 s: see $dir/log"
}

stop() {
	running || { rm -f "$dir/pid"; return 0; }
	local i
	kill "$(cat "$dir/pid")"
	for ((i = 0; i < 200; i++)); do
		running || { rm -f "$dir/pid"; return 0; }
		sleep 0.05
	done
	die "process $(cat "$dir/pid") still runs 10 s after SIGTERM"
}

serve() {
	case "$cmd" in
	install) install ;;
	start) start ;;
	stop) stop ;;
	status) running ;;
	wipe)
		stop
		rm -rf "$dir"
		;;
	env) environment ;;
	*) usage ;;
	esac
}
