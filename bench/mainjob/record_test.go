package mainjob

import (
	"encoding/json"
	"math"
	"testing"
)

// Every record is 255 bytes of JSON that hold what Fill sets.
func TestRecords(t *testing.T) {
	m := NewMaker(1000)
	for _, i := range []int64{0, 1, 999, 123_456, 5_000_000, math.MaxInt32} {
		var want, got Record
		m.Fill(i, &want)
		b := m.AppendJSON(nil, i, At(i))
		if len(b) != RecordBytes {
			t.Errorf("record %d has %d bytes, want %d", i, len(b), RecordBytes)
		}
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("record %d: %v: %s", i, err, b)
		}
		want.Note = got.Note // pads to length
		if got != want {
			t.Errorf("record %d is %+v, want %+v", i, got, want)
		}
	}
}
