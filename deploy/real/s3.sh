#!/usr/bin/env bash
# s3.sh runs a real S3 server (versitygw over a folder) on 127.0.0.1 for tests. It
# needs go, to build the server once.
#
#	s3.sh install          build the server, once (2 minutes)
#	s3.sh start [PORT]     start and wait until ready; prints the endpoint
#	s3.sh stop  [PORT]     stop
#	s3.sh status [PORT]    exit 0 if it runs
#	s3.sh wipe  [PORT]     stop and delete its data
#	s3.sh env   [PORT]     print what tests read, for eval
#
# PORT is 17070 if not given. Each port is a server of its own; buckets are folders
# under .real/s3/s-PORT/data, objects plain files in them, so that a test can make a
# bucket with mkdir and damage an object on purpose.
set -euo pipefail

VERSION=v1.8.0
ACCESS_KEY=testkey
SECRET_KEY=testsecret

cmd=${1:-}
port=${2:-17070}
root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
real=$root/.real
bin=$real/bin/versitygw
dir=$real/s3/s-$port
endpoint=http://127.0.0.1:$port

die() { echo "s3.sh: $*" >&2; exit 1; }

usage() {
	sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
	exit 2
}

running() { [ -s "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null && grep -q versitygw "/proc/$(cat "$dir/pid")/cmdline" 2>/dev/null; }

install() {
	[ -x "$bin" ] && go version -m "$bin" | grep -q "mod.*versity/versitygw.*$VERSION" && return
	command -v go >/dev/null || die "go is missing: install Go"
	mkdir -p "$real/bin"
	exec 9>"$real/s3.lock"
	flock 9
	echo "s3.sh: building versitygw $VERSION, about 2 minutes" >&2
	(cd "$real" && GOBIN="$real/bin" GOFLAGS= go install "github.com/versity/versitygw/cmd/versitygw@$VERSION") >&2
	exec 9>&-
}

start() {
	install
	mkdir -p "$dir/data" "$dir/sidecar"
	exec 8>"$dir/lock"
	flock 8
	if ! running; then
		# Attributes live in extended attributes where the file system has them, else
		# beside the data.
		local attrs=()
		if ! python3 -c 'import os,sys; os.setxattr(sys.argv[1], "user.weir", b"1")' "$dir/data" 2>/dev/null; then
			attrs=(--sidecar "$dir/sidecar")
		fi
		(ROOT_ACCESS_KEY=$ACCESS_KEY ROOT_SECRET_KEY=$SECRET_KEY exec nohup setsid "$bin" --port "127.0.0.1:$port" --health /health --quiet \
			posix "${attrs[@]}" "$dir/data" >"$dir/log" 2>&1 8>&- </dev/null &
			echo $! >"$dir/pid")
	fi
	local i
	for ((i = 0; i < 600; i++)); do
		curl -sf -o /dev/null "$endpoint/health" && { echo "$endpoint"; return; }
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
		export WEIR_S3_ENDPOINT=$endpoint
		export WEIR_S3_DATA=$dir/data
		export AWS_ACCESS_KEY_ID=$ACCESS_KEY
		export AWS_SECRET_ACCESS_KEY=$SECRET_KEY
		export AWS_REGION=us-east-1
	ENV
	;;
*) usage ;;
esac
