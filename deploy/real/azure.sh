#!/usr/bin/env bash
# azure.sh runs Azurite, Microsoft's emulator of Azure Blob Storage, on 127.0.0.1
# for tests. It needs node and npm, to install it once, and openssl.
#
#	azure.sh install          install the server, once (15 s)
#	azure.sh start [PORT]     start and wait until ready; prints the endpoint
#	azure.sh stop  [PORT]     stop
#	azure.sh status [PORT]    exit 0 if it runs
#	azure.sh wipe  [PORT]     stop and delete its data
#	azure.sh env   [PORT]     print what tests read, for eval
#
# PORT is 17076 if not given. Each port is a server of its own, with the container
# weir.
VERSION=3.37.0
ACCOUNT=devstoreaccount1
CONTAINER=weir
# The emulator's key is public: it stands in Microsoft's documentation.
KEY=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==

cmd=${1:-}
port=${2:-17076}
name=azurite
process=azurite
# shellcheck source=deploy/real/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
bin=$real/azurite/node_modules/.bin/azurite-blob

install() {
	[ -x "$bin" ] && grep -q "\"version\": \"$VERSION\"" "$real/azurite/node_modules/azurite/package.json" && return
	command -v npm >/dev/null || die "npm is missing: install Node.js 20 or later"
	alone "installing azurite $VERSION" npm install --no-audit --no-fund --silent --prefix "$real/azurite" "azurite@$VERSION"
}

spawn() {
	nohup setsid "$bin" --blobHost 127.0.0.1 --blobPort "$port" --location "$dir/data" --skipApiVersionCheck --disableTelemetry --silent \
		>"$dir/log" 2>&1 8>&- </dev/null &
	echo $!
}

ready() { curl -s -o /dev/null "$endpoint/" && container; }

# container makes the container that tests of tables share, by a request signed with
# the account's key.
container() {
	local date hex sign
	date=$(date -u '+%a, %d %b %Y %H:%M:%S GMT')
	hex=$(printf %s "$KEY" | base64 -d | od -An -v -tx1 | tr -d ' \n')
	sign=$(printf 'PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:%s\nx-ms-version:2021-12-02\n/%s/%s/%s\nrestype:container' "$date" "$ACCOUNT" "$ACCOUNT" "$CONTAINER" |
		openssl dgst -sha256 -mac HMAC -macopt "hexkey:$hex" -binary | base64)
	local status
	status=$(curl -s -o /dev/null -w '%{http_code}' -X PUT -H "x-ms-date: $date" -H 'x-ms-version: 2021-12-02' -H 'Content-Length: 0' \
		-H "Authorization: SharedKey $ACCOUNT:$sign" "$endpoint/$ACCOUNT/$CONTAINER?restype=container")
	case $status in 201 | 409) ;; *) die "cannot make the container $CONTAINER: status $status" ;; esac
}

environment() {
	cat <<-ENV
		export WEIR_AZURE_ENDPOINT=$endpoint/$ACCOUNT
		export WEIR_AZURE_CONTAINER=$CONTAINER
		export AZURE_STORAGE_ACCOUNT=$ACCOUNT
		export AZURE_STORAGE_KEY=$KEY
	ENV
}

serve
