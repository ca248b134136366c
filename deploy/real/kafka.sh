#!/usr/bin/env bash
# kafka.sh runs a real Apache Kafka broker (KRaft, one node) on 127.0.0.1 for
# tests. It needs java and mvn.
#
#	kafka.sh install               fetch the jars, once
#	kafka.sh start   [PORT]        format the data folder once, start, wait until ready
#	kafka.sh stop    [PORT]        stop cleanly
#	kafka.sh kill9   [PORT]        kill -9, as a crash does
#	kafka.sh restart [PORT]        stop cleanly (or find it killed) and start again
#	kafka.sh status  [PORT]        exit 0 if it runs
#	kafka.sh wipe    [PORT]        kill it and delete its data
#	kafka.sh env     [PORT]        print WEIR_KAFKA=host:port for eval
#
# PORT is the client port, 19092 if not given; PORT+1 is the controller's. Each port
# is a broker of its own with data under .real/kafka/b-PORT. Start prints
# host:port and may be called on a running broker.
set -euo pipefail

VERSION=4.4.0
SLF4J=1.7.36

cmd=${1:-}
port=${2:-19092}
root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
home=$root/.real/kafka
libs=$home/libs-$VERSION
dir=$home/b-$port

die() { echo "kafka.sh: $*" >&2; exit 1; }

usage() {
	sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
	exit 2
}

running() { [ -s "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null && grep -q kafka.Kafka "/proc/$(cat "$dir/pid")/cmdline" 2>/dev/null; }

install() {
	[ -e "$libs/.done" ] && return
	command -v java >/dev/null || die "java is missing: install a JDK or JRE, 17 or newer"
	command -v mvn >/dev/null || die "mvn is missing: install Maven"
	mkdir -p "$home"
	exec 9>"$home/install.lock"
	flock 9
	[ -e "$libs/.done" ] && return
	rm -rf "$libs" "$home/pom"
	mkdir -p "$home/pom"
	cat >"$home/pom/pom.xml" <<-POM
		<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
		  <groupId>local</groupId><artifactId>real-kafka</artifactId><version>1</version><packaging>pom</packaging>
		  <dependencies>
		    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$VERSION</version></dependency>
		    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>$SLF4J</version></dependency>
		  </dependencies></project>
	POM
	(cd "$home/pom" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$libs") >&2
	touch "$libs/.done"
	exec 9>&-
}

format() {
	[ -e "$dir/formatted" ] && return
	rm -rf "$dir"
	mkdir -p "$dir"
	cat >"$dir/server.properties" <<-PROPS
		process.roles=broker,controller
		node.id=1
		listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
		advertised.listeners=PLAINTEXT://127.0.0.1:$port
		controller.listener.names=CONTROLLER
		controller.quorum.voters=1@127.0.0.1:$((port + 1))
		log.dirs=$dir/data
		offsets.topic.replication.factor=1
		offsets.topic.num.partitions=1
		transaction.state.log.replication.factor=1
		transaction.state.log.min.isr=1
		transaction.state.log.num.partitions=4
		group.initial.rebalance.delay.ms=0
		transaction.max.timeout.ms=86400000
		num.network.threads=2
		num.io.threads=2
		auto.create.topics.enable=false
	PROPS
	local id
	id=$(java -cp "$libs/*" kafka.tools.StorageTool random-uuid 2>/dev/null)
	java -cp "$libs/*" kafka.tools.StorageTool format -t "$id" -c "$dir/server.properties" >"$dir/format.log" 2>&1 ||
		die "format failed: $(tail -n 3 "$dir/format.log")"
	touch "$dir/formatted"
}

start() {
	install
	mkdir -p "$home"
	exec 8>"$home/b-$port.lock"
	flock 8
	if ! running; then
		format
		: >"$dir/log"
		(cd "$dir" && exec nohup setsid java -Xms512m -Xmx512m -XX:+UseSerialGC -cp "$libs/*" kafka.Kafka server.properties >log 2>&1 8>&- 9>&- </dev/null &
			echo $! >"$dir/pid")
	fi
	local i
	for ((i = 0; i < 1200; i++)); do
		grep -q 'Kafka Server started' "$dir/log" && { echo "127.0.0.1:$port"; return; }
		kill -0 "$(cat "$dir/pid")" 2>/dev/null || die "the broker died: $(tail -n 5 "$dir/log")"
		sleep 0.1
	done
	die "not ready after 120 s: see $dir/log"
}

# signal SIG ends the broker and waits until it is gone.
signal() {
	running || { rm -f "$dir/pid"; return 0; }
	local pid i
	pid=$(cat "$dir/pid")
	kill "-$1" "$pid"
	for ((i = 0; i < 600; i++)); do
		running || { rm -f "$dir/pid"; return 0; }
		sleep 0.1
	done
	die "process $pid still runs 60 s after SIG$1"
}

case "$cmd" in
install) install ;;
start) start ;;
stop) signal TERM ;;
kill9) signal KILL ;;
restart)
	signal TERM
	start
	;;
status) running ;;
wipe)
	signal KILL
	rm -rf "$dir"
	;;
env) echo "export WEIR_KAFKA=127.0.0.1:$port" ;;
*) usage ;;
esac
