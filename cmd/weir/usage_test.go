package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// weir runs the whole command line in this process.
func weir(t *testing.T, args ...string) (out, said string, err error) {
	t.Helper()
	cmd := root()
	var o, e bytes.Buffer
	cmd.SetOut(&o)
	cmd.SetErr(&e)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return o.String(), e.String(), err
}

// A mistake on the command line is told in one sentence with what was meant.
func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string
	}{
		{"lsit", `weir has no command "lsit": did you mean list?`},
		{"lsit --foo", `weir has no command "lsit": did you mean list?`},
		{"xyzzyplugh", `weir has no command "xyzzyplugh": weir --help lists them`},
		{"table optimise x", `weir table has no command "optimise": did you mean optimize?`},
		{"inspect manifset x", `weir inspect has no command "manifset": did you mean manifest?`},
		{"bench mainjobs", `weir bench has no command "mainjobs": did you mean mainjob?`},
		{"run x --paralelism 2", "weir run has no flag --paralelism: did you mean --parallelism?"},
		{"build --fixx x", "weir build has no flag --fixx: did you mean --fix?"},
		{"--versoin", "weir has no flag --versoin"},
		{"run x -p two", `weir run: --parallelism "two": want a number`},
		{"run x -d=maybe", `weir run: --detached "maybe": want true or false`},
		{"dev --state-budget 5GB", `weir dev: --state-budget "5GB": want a size such as 512MiB or 1GiB`},
		{"cancel", "0 arguments for weir cancel: want weir cancel JOB | PIPELINE"},
		{"list x y", "2 arguments for weir list: want weir list"},
		{"list -o xml", `--output "xml": want table or json`},
		{"version -o xml", `--output "xml": want table or json`},
		{"run /nowhere/x", "job /nowhere/x: stat /nowhere/x: no such file or directory: name a pack (.wj) or the folder of a job"},
		{"list --job-manager 127.0.0.1:1", "no job manager answers at 127.0.0.1:1: start one with weir dev, or name it with --job-manager"},
		{"list --job-manager a b:1", "1 arguments for weir list"},
	} {
		_, _, err := weir(t, strings.Fields(tt.args)...)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("weir %s: error %v, want one sentence with %q", tt.args, err, tt.want)
		}
	}
}

// What a job manager refuses, and what is no job manager, is told in one sentence.
func TestClientRefusals(t *testing.T) {
	answers := map[string]func(http.ResponseWriter){
		"refusal": func(w http.ResponseWriter) {
			w.WriteHeader(404)
			_ = json.NewEncoder(w).Encode(map[string][]string{"errors": {"no such job"}})
		},
		"page":   func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) },
		"error":  func(w http.ResponseWriter) { w.WriteHeader(502) },
		"broken": func(w http.ResponseWriter) { w.Header().Set("Content-Length", "100"); _, _ = w.Write([]byte("{")) },
	}
	now := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answers[now](w) }))
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	for what, want := range map[string]string{"refusal": "no such job", "page": "does not answer as a job manager does", "error": "answers 502 Bad Gateway: is a job manager there?", "broken": "broke off its answer"} {
		now = what
		for _, verb := range [][]string{{"list"}, {"info", "a/b"}, {"cancel", "x"}, {"stop", "x"}, {"savepoint", "x"}, {"savepoint", "x", "--dispose", "3"}, {"checkpoint", "x"}, {"rescale", "x", "-p", "2"}} {
			out, _, err := weir(t, append(verb, "--job-manager", addr, "-o", "json")...)
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || out != "" {
				t.Errorf("%s, %v: error %v, printed %q, want one sentence with %q", what, verb, err, out, want)
			}
		}
	}
}
