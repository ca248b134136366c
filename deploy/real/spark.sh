#!/usr/bin/env bash
# spark.sh makes the Python environment that holds Spark with Delta, for the tests
# that let Spark read what Weir wrote. It needs java, mvn and python3 (600 MB).
#
#	deploy/real/spark.sh            make it if it is absent or of other versions
#	deploy/real/spark.sh run FILE ARGS...   make it, and run a Python file in it
#
# A Python file finds the jars to give Spark in WEIR_SPARK_JARS.
set -euo pipefail

PINS="pyspark==4.2.0 delta-spark==4.4.0"
ARTIFACT=delta-spark_4.2_2.13
ARTIFACT_VERSION=4.4.0

root=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
real=$root/.real
home=$real/spark
stamp=$home/.pins

die() { echo "spark.sh: $*" >&2; exit 1; }

make() {
	for tool in java mvn python3; do
		command -v "$tool" >/dev/null || die "$tool is missing: install it"
	done
	mkdir -p "$real"
	exec 9>"$real/spark.lock"
	flock 9
	[ "$(cat "$stamp" 2>/dev/null)" = "$PINS $ARTIFACT:$ARTIFACT_VERSION" ] && return
	echo "spark.sh: installing $PINS into $home" >&2
	rm -rf "$home"
	mkdir -p "$home/pom"
	python3 -m venv "$home/venv"
	# shellcheck disable=SC2086 # the pins are separate words
	"$home/venv/bin/pip" install -q --disable-pip-version-check --no-input $PINS >&2
	cat >"$home/pom/pom.xml" <<-POM
		<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
		  <groupId>local</groupId><artifactId>real-spark</artifactId><version>1</version><packaging>pom</packaging>
		  <dependencies>
		    <dependency><groupId>io.delta</groupId><artifactId>$ARTIFACT</artifactId><version>$ARTIFACT_VERSION</version></dependency>
		  </dependencies></project>
	POM
	(cd "$home/pom" && mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$home/all") >&2
	mkdir -p "$home/jars" # the other jars clash with Spark's own
	cp "$home"/all/delta-spark* "$home"/all/delta-storage* "$home/jars"
	cp "$home"/all/delta-kernel* "$home"/all/unitycatalog* "$home/jars" 2>/dev/null || true
	rm -rf "$home/all"
	printf %s "$PINS $ARTIFACT:$ARTIFACT_VERSION" >"$stamp"
}

case "${1:-make}" in
make) make ;;
run)
	make
	exec 9>&-
	shift
	WEIR_SPARK_JARS=$(printf '%s,' "$home"/jars/*.jar)
	export WEIR_SPARK_JARS=${WEIR_SPARK_JARS%,}
	exec "$home/venv/bin/python3" "$@"
	;;
*) die "unknown command '$1': want make or run" ;;
esac
