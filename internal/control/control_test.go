package control

import (
	"reflect"
	"testing"

	"github.com/weirstream/weir/dataflow"
)

var samples = []Message{
	Deploy{}, Start{}, Trigger{}, Abort{}, Complete{}, Commit{}, Finished{}, Drain{}, Cancel{}, Ready{}, Acked{},
	Declined{}, Committed{}, CommitFailed{}, Failed{}, Ended{}, Stopped{}, Report{},
}

// Every message comes back from its bytes with its own type, and every decoder
// has a message.
func TestMessages(t *testing.T) {
	if len(samples) != len(decoders) {
		t.Errorf("%d messages are tested, %d decode", len(samples), len(decoders))
	}
	for _, m := range samples {
		b, err := Encode(m)
		if err != nil {
			t.Errorf("Encode(%T): %v", m, err)
			continue
		}
		got, err := Decode(b)
		if err != nil || reflect.TypeOf(got) != reflect.TypeOf(m) {
			t.Errorf("Decode(%s) = %T, %v, want %T", b, got, err, m)
		}
	}
}

// Any bytes decode to an error or to a message that survives another round.
func FuzzMessage(f *testing.F) {
	for _, m := range samples {
		b, err := Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	full, err := Encode(Acked{Part: dataflow.Part{Subtask: dataflow.SubtaskID{Chain: "count", Index: 1}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		first, err := Encode(m)
		if err != nil {
			t.Fatalf("%T was read and cannot be written: %v", m, err)
		}
		again, err := Decode(first)
		if err != nil {
			t.Fatalf("%s was written and cannot be read: %v", first, err)
		}
		if second, err := Encode(again); err != nil || string(first) != string(second) {
			t.Fatalf("written twice: %s\nand %s (%v)", first, second, err)
		}
	})
}
