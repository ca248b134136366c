package deltalake

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
)

// checkLine compares the fast reader with encoding/json on one line.
func checkLine(t *testing.T, line []byte) bool {
	t.Helper()
	a := (&lineReader{}).add(line)
	if a == nil {
		return false
	}
	var want action
	if err := json.Unmarshal(line, &want); err != nil {
		t.Fatalf("%q is read although it is not JSON: %v", line, err)
	}
	if !reflect.DeepEqual(action{Add: a}, want) {
		t.Fatalf("%q is read as %s, want %s", line, jsonText(a), jsonText(want))
	}
	return true
}

var fastLines = []string{
	`{"add":{"path":"a","partitionValues":{},"size":1,"modificationTime":2,"dataChange":true}}`,
	`{"add":{"path":"p=%20x/é.parquet","partitionValues":{"p":" x","q":null,"r":"\"\\\/\n\t\r"},"size":-12,"modificationTime":0,"dataChange":false,"stats":"{\"numRecords\":3,\"minValues\":{\"s\":\"ä\"}}"}}`,
	`{"add":{"path":"","stats":""}}`,
}

// Lines that the fast reader takes, also after a byte of them changed, are what
// encoding/json makes of them; the common ones it takes.
func TestFastLines(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 5))
	read := 0
	for _, s := range fastLines {
		if !checkLine(t, []byte(s)) {
			t.Fatalf("%s is not read fast", s)
		}
		for range 20_000 {
			line := []byte(s)
			for range 1 + rng.IntN(2) {
				i := rng.IntN(len(line))
				switch rng.IntN(4) {
				case 0:
					line[i] = byte(rng.IntN(256))
				case 1:
					line[i] = `{}":,\0-9etn `[rng.IntN(13)]
				case 2:
					line = append(line[:i], line[i+1:]...)
				default:
					line = append(line[:i], append([]byte{line[rng.IntN(len(line))]}, line[i:]...)...)
				}
			}
			if checkLine(t, line) {
				read++
			}
		}
	}
	if read < 1000 {
		t.Fatalf("only %d changed lines were read", read)
	}
	for _, s := range []string{
		`{"add":{"path":"a","path":"b"}}`, `{"add":{"path":"a","tags":{}}}`, `{"add":{"PATH":"a"}}`, `{"add":{"path":"\u0041"}}`, `{"add":{"size":01}}`,
		`{"add":{"size":1234567890123456789}}`, `{"add":{"size":1.0}}`, `{"add":{"path":"a"}} `, `{"add":{"path":"a"}}}`, `{"add":{"path":null}}`, "{\"add\":{\"path\":\"\xff\"}}",
	} {
		if (&lineReader{}).add([]byte(s)) != nil {
			t.Errorf("%s is read fast", s)
		}
	}
}

// FuzzFastLine is TestFastLines for whatever the fuzzer makes up.
func FuzzFastLine(f *testing.F) {
	for _, s := range fastLines {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) { checkLine(t, line) })
}
