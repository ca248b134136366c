package deltalake

import (
	"encoding/json"
	"testing"
)

// What is read of statistics without encoding/json is what that reads.
func FuzzStatistics(f *testing.F) {
	for _, s := range []string{
		speedAdd(7).Stats, `{}`, ``, `{"numRecords":3}`, `{"numRecords":3.0}`, `{"numRecords":-0}`, `{"numRecords":03}`, `{"numRecords":null}`, `{"NumRecords":1}`,
		`{"minValues":{"a":{"b":1,"b":2}},"maxValues":{"a":{"b":"x\u00e9\"y"}},"nullCount":{"a":{"b":0}},"tightBounds":true}`,
		`{"minValues":null}`, `{"minValues":1}`, `{"minValues":{"a":1},"minValues":{"b":2}}`, `{"minvalues":{"a":1}}`, `{"minValues":{"a":1}`, `{"minValues":{"a":1}} `,
		`{"minValues":{"\u0061":1}}`, `{"minValues":{"a":[1,{"b":[]}]}}`, `{"tightBounds":1,"minValues":{"a":1}}`, `{"x":tru,"minValues":{"a":1}}`, `{"minValues":{"a":1e5,"b":-1.5E-3}}`,
		"{\"minValues\":{\"a\xff\":1}}", `{"minValues":{"a":"\ud800"}}`, `{"minValues":{"a":01}}`, `{"minValues":{"a":"\x"}}`, `{"numRecords":123456789012345678901}`,
		`{"minValues":{"a":"\`, `{"minValues":{"a":"\u00`, `{"minValues":{"a`, `{"minValues":{"a":-`, `{"numRecords":`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := parseStatistics(text)
		want := &fileStatistics{}
		if json.Unmarshal([]byte(text), want) != nil {
			want = &fileStatistics{}
		}
		if (got.NumRecords == nil) != (want.NumRecords == nil) || got.NumRecords != nil && *got.NumRecords != *want.NumRecords {
			t.Fatalf("%q: records differ", text)
		}
		for part := range statKeys {
			paths := [][]string{{"a"}, {"b"}, {"a", "b"}, {"id"}, {"url"}, {""}, {"a\ufffd"}}
			for name := range []map[string]json.RawMessage{want.MinValues, want.MaxValues, want.NullCount}[part] {
				paths = append(paths, []string{name})
			}
			for _, path := range paths {
				if g, w := got.lookup(part, path), want.lookup(part, path); string(g) != string(w) {
					t.Fatalf("%q: %s of %q is %q, want %q", text, statKeys[part], path, g, w)
				}
			}
		}
	})
}

// The statistics that writers give are read without encoding/json.
func TestStatisticsAreWalked(t *testing.T) {
	for _, s := range []string{speedAdd(1).Stats, `{"numRecords":1,"minValues":{"a":{"b":"\"é\""}},"maxValues":{},"nullCount":{"a":{"b":0}},"tightBounds":false}`} {
		if _, ok := walkStatistics(s); !ok {
			t.Errorf("%s is left to encoding/json", s)
		}
	}
}
