package dataflow

import "testing"

// A row key that parses is appended again as the same bytes.
func FuzzRowKey(f *testing.F) {
	f.Add(AppendRowKey(nil, 7, 3, 99, []byte("key")), false)
	f.Add(AppendPaneRowKey(nil, 7, 3, -5, 99, []byte("key")), true)
	f.Fuzz(func(t *testing.T, b []byte, panes bool) {
		k, ok := ParseRowKey(b, panes)
		if !ok {
			return
		}
		var again []byte
		if panes {
			again = AppendPaneRowKey(nil, k.Group, k.State, k.Pane, k.Hash, k.Key)
		} else {
			again = AppendRowKey(nil, k.Group, k.State, k.Hash, k.Key)
		}
		if string(again) != string(b) {
			t.Fatalf("%x is parsed as %+v and written as %x", b, k, again)
		}
		if group, state := RowGroup(b); group != k.Group || state != k.State {
			t.Fatalf("RowGroup(%x) = %d, %d, ParseRowKey says %d, %d", b, group, state, k.Group, k.State)
		}
	})
}
