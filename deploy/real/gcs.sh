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
VERSION=v1.56.1
BUCKET=weir

cmd=${1:-}
port=${2:-17074}
name=gcs
process=fake-gcs-server
# shellcheck source=deploy/real/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install() { goinstall github.com/fsouza/fake-gcs-server "$VERSION" 3; }

spawn() {
	nohup setsid "$real/bin/fake-gcs-server" -backend memory -scheme http -host 127.0.0.1 -port "$port" -public-host "127.0.0.1:$port" \
		-external-url "$endpoint" -log-level warn >"$dir/log" 2>&1 8>&- </dev/null &
	echo $!
}

# ready makes the bucket that tests of tables share.
ready() {
	curl -sf -o /dev/null "$endpoint/_internal/healthcheck" || return
	curl -sf -o /dev/null "$endpoint/storage/v1/b/$BUCKET" ||
		curl -sf -o /dev/null -X POST -H 'Content-Type: application/json' -d "{\"name\":\"$BUCKET\"}" "$endpoint/storage/v1/b?project=weir"
}

environment() {
	cat <<-ENV
		export WEIR_GCS_ENDPOINT=$endpoint
		export WEIR_GCS_BUCKET=$BUCKET
	ENV
}

serve
