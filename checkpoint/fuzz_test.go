package checkpoint

import (
	"bytes"
	"testing"

	"github.com/weirstream/weir/dataflow"
)

// A manifest that decodes is written again as bytes that decode to the same.
func FuzzManifest(f *testing.F) {
	m := &Manifest{Version: ManifestVersion, Pipeline: "p", Epoch: 3, Parts: []dataflow.Part{{
		Subtask: dataflow.SubtaskID{Chain: "count", Index: 1}, Groups: dataflow.KeyGroups{From: 0, To: 64},
		Files: []dataflow.FileRef{{Object: "o", Length: 10, Groups: dataflow.KeyGroups{From: 0, To: 64}}},
	}}}
	seed, _, err := m.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"version":1,"pipeline":"p","epoch":1,"parts":[{"operators":null}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		m.Objects()
		m.Bytes()
		first, hash, err := m.Encode()
		if err != nil {
			t.Fatalf("a manifest that was read cannot be written: %v", err)
		}
		again, err := Decode(first)
		if err != nil {
			t.Fatalf("a manifest that was written cannot be read: %v", err)
		}
		if second, h2, err := again.Encode(); err != nil || !bytes.Equal(first, second) || hash != h2 {
			t.Fatalf("written twice: %s\nand %s (%v)", first, second, err)
		}
	})
}
