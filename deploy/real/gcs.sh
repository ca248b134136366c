#!/usr/bin/env bash
# gcs.sh runs fake-gcs-server, an independent server of Google Cloud Storage's JSON
# API that keeps its objects in memory, on 127.0.0.1 for tests. It needs go, to
# build the server once.
#
#	gcs.sh install          build the server, once (3 minutes)
#	gcs.sh start [PORT]     start and wait until ready; prints the endpoint
#	gcs.sh stop  [PORT]     stop, which forgets the objects
#	gcs.sh status [PORT]    exit 0 if it runs
#	gcs.sh wipe  [PORT]     stop and delete its log
#	gcs.sh env   [PORT]     print what tests read, for eval
#
# PORT is 17074 if not given. Each port is a server of its own, with the bucket
# weir.
set -euo pipefail

VERSION=v1.56.1
BUCKET=weir

cmd=${1:-}
port=${2:-17074}
root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
real=$root/.real
bin=$real/bin/fake-gcs-server
dir=$real/gcs/s-$port
endpoint=http://127.0.0.1:$port

die() { echo "gcs.sh: $*" >&2; exit 1; }

usage() {
	sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
	exit 2
}

running() { [ -s "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null && grep -q fake-gcs-server "/proc/$(cat "$dir/pid")/cmdline" 2>/dev/null; }

install() {
	[ -x "$bin" ] && go version -m "$bin" | grep -q "mod.*fsouza/fake-gcs-server.*$VERSION" && return
	command -v go >/dev/null || die "go is missing: install Go"
	mkdir -p "$real/bin"
	exec 9>"$real/gcs.lock"
	flock 9
	echo "gcs.sh: building fake-gcs-server $VERSION, about 3 minutes" >&2
	(cd "$real" && GOBIN="$real/bin" GOFLAGS= go install "github.com/fsouza/fake-gcs-server@$VERSION") >&2
	exec 9>&-
}

# bucket makes the bucket that tests of tables share.
bucket() {
	curl -sf -o /dev/null "$endpoint/storage/v1/b/$BUCKET" ||
		curl -sf -o /dev/null -X POST -H 'Content-Type: application/json' -d "{\"name\":\"$BUCKET\"}" "$endpoint/storage/v1/b?project=weir"
}

start() {
	install
	mkdir -p "$dir"
	exec 8>"$dir/lock"
	flock 8
	if ! running; then
		(exec nohup setsid "$bin" -backend memory -scheme http -host 127.0.0.1 -port "$port" -public-host "127.0.0.1:$port" -external-url "$endpoint" \
			-log-level warn >"$dir/log" 2>&1 8>&- </dev/null &
			echo $! >"$dir/pid")
	fi
	local i
	for ((i = 0; i < 600; i++)); do
		curl -sf -o /dev/null "$endpoint/_internal/healthcheck" && { bucket; echo "$endpoint"; return; }
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

case "$cmd" in
install) install ;;
start) start ;;
stop) stop ;;
status) running ;;
wipe)
	stop
	rm -rf "$dir"
	;;
env)
	cat <<-ENV
		export WEIR_GCS_ENDPOINT=$endpoint
		export WEIR_GCS_BUCKET=$BUCKET
	ENV
	;;
*) usage ;;
esac
