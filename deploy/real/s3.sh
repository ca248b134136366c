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
VERSION=v1.8.0
ACCESS_KEY=testkey
SECRET_KEY=testsecret

cmd=${1:-}
port=${2:-17070}
name=s3
process=versitygw
# shellcheck source=deploy/real/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install() { goinstall github.com/versity/versitygw/cmd/versitygw "$VERSION" 2; }

spawn() {
	# Attributes live in extended attributes where the file system has them, else
	# beside the data.
	local attrs=()
	if ! python3 -c 'import os,sys; os.setxattr(sys.argv[1], "user.weir", b"1")' "$dir/data" 2>/dev/null; then
		mkdir -p "$dir/sidecar"
		attrs=(--sidecar "$dir/sidecar")
	fi
	ROOT_ACCESS_KEY=$ACCESS_KEY ROOT_SECRET_KEY=$SECRET_KEY nohup setsid "$real/bin/versitygw" --port "127.0.0.1:$port" --health /health --quiet \
		posix "${attrs[@]}" "$dir/data" >"$dir/log" 2>&1 8>&- </dev/null &
	echo $!
}

ready() { curl -sf -o /dev/null "$endpoint/health"; }

environment() {
	cat <<-ENV
		export WEIR_S3_ENDPOINT=$endpoint
		export WEIR_S3_DATA=$dir/data
		export AWS_ACCESS_KEY_ID=$ACCESS_KEY
		export AWS_SECRET_ACCESS_KEY=$SECRET_KEY
		export AWS_REGION=us-east-1
	ENV
}

serve
