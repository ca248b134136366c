package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// Columns are declared as in SQL, nested types and quoted names too.
func TestTableColumns(t *testing.T) {
	s, err := parseColumns([]string{"Id BIGINT NOT NULL, `a b` STRING comment 'it''s, ok', d DECIMAL(10, 2) null, tags array<struct<x:int, `y z`: map<string, array<real>>>>," +
		" m map<struct<a:smallint not null>,numeric(5,1)>, \"q\"\"q\" timestamp_ntz, e decimal, n int default 5 not null, day date generated always as (cast(at as date)) comment 'day', at timestamp", "z text"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	field := func(name, typ, nullable, meta string) string {
		return `{"name":"` + name + `","type":` + typ + `,"nullable":` + nullable + `,"metadata":{` + meta + `}}`
	}
	list := func(elem string) string { return `{"type":"array","elementType":` + elem + `,"containsNull":true}` }
	mapping := func(k, v string) string {
		return `{"type":"map","keyType":` + k + `,"valueType":` + v + `,"valueContainsNull":true}`
	}
	record := func(fields ...string) string { return `{"type":"struct","fields":[` + strings.Join(fields, ",") + `]}` }
	want := record(
		field("Id", `"long"`, "false", ""), field("a b", `"string"`, "true", `"comment":"it's, ok"`), field("d", `"decimal(10,2)"`, "true", ""),
		field("tags", list(record(field("x", `"integer"`, "true", ""), field("y z", mapping(`"string"`, list(`"float"`)), "true", ""))), "true", ""),
		field("m", mapping(record(field("a", `"short"`, "false", "")), `"decimal(5,1)"`), "true", ""), field(`q\"q`, `"timestamp_ntz"`, "true", ""),
		field("e", `"decimal(10,0)"`, "true", ""), field("n", `"integer"`, "false", `"CURRENT_DEFAULT":"5"`),
		field("day", `"date"`, "true", `"comment":"day","delta.generationExpression":"cast(at as date)"`), field("at", `"timestamp"`, "true", ""), field("z", `"string"`, "true", ""))
	if string(got) != want {
		t.Errorf("columns\n%s, want\n%s", got, want)
	}
	for spec, words := range map[string]string{
		"": "a name is missing", "id": "needs a type", "id long,": "a name is missing", "id long name string": `"name string" is not understood`, "id array<int": "> is missing",
		"id map<int>": "a comma is missing", "id struct<>": "a name is missing", "id varchar(10)": "write string", "id decimal(40,2)": "decimal(40,2) is not supported",
		"`id long": "not closed", "id long default": "not understood", "id long generated always as (nope())": "nope", "id lon": "type lon is not supported", "id long not": "not understood",
		"id " + strings.Repeat("array<", 80) + "int": "too deep", `{"type":"struct"`: "Delta's JSON",
	} {
		if _, err := parseColumns([]string{spec}); err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one sentence with %q", spec, err, words)
		}
	}
}

// Options without a meaning are refused before anything is done, in one sentence.
func TestTableOptionFaults(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "t")
	if _, err := weirTable(t, "create", dir, "--columns", "id long"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args  string
		words string
	}{
		{"show T --version -2", "--version -2 is negative"}, {"show T --limit -3", "--limit -3 is negative"}, {"history T --limit -1", "negative"}, {"info T --version -9", "negative"},
		{"optimize T --target-bytes -5", "want a size such as"}, {"vacuum T --retention-hours -7", "negative"}, {"follow T --once --from -2", "negative"},
		{"cdf T --from-timestamp soon", `"soon" is not a time`}, {"cdf T --from-timestamp 2099-01-01", "no version is as young"}, {"cdf T --until-timestamp 1999-01-01", "no version is as old"},
		{"cdf T --from 3 --until 1", "--until 1 is before --from 3"}, {"delete T --all --where id=1", "not both"}, {"restore T --version 0 --timestamp 2024-01-01", "not both"},
		{"show T --version 0 --timestamp 2024-01-01", "not both"}, {"show T --timestamp yesterday", "milliseconds since 1970"}, {"export T --to /nonexistent-folder/x.parquet", "there is no folder"},
		{"export T --to /", "is a folder"}, {"properties T --set delta.appendonly=true", "is delta.appendOnly meant"}, {"properties T --set delta.foo=1", "delta.foo is unknown"},
		{"properties T --set delta.enableChangeDataFed=true", "is delta.enableChangeDataFeed meant"}, {"vacuum T --retention-hours 0", "--force"},
	} {
		args := strings.Fields(tt.args)
		args[1] = dir
		if _, err := weirTable(t, args...); err == nil || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one sentence with %q", tt.args, err, tt.words)
		}
	}
	if _, err := weirTable(t, "show", dir, "--version", "-1"); err != nil {
		t.Error("-1 is the newest version: ", err)
	}
	out, err := weirTable(t, "delete", dir, "--where", "id = 1", "-o", "json")
	if err != nil || !strings.HasPrefix(out, `{"version":0,"committed":false,"rowsDeleted":0`) {
		t.Errorf("delete told %s (%v)", out, err)
	}
	for _, at := range []string{"2099-01-01", "2099-01-01T10:00Z", "2099-01-01 10:00:00.5", "2099-01-01T10:00:00+0200", "4102444800000"} {
		if _, err := weirTable(t, "show", dir, "--timestamp", at); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
}
