package objstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// tempDir is where the folder driver keeps unfinished objects; no key may lie in
// it, in any driver, so that a folder can always be copied to another store.
const tempDir = ".weir-tmp"

// ErrKey reports a key that no store takes; the message says why.
var ErrKey = errors.New("bad key")

// CheckKey reports what is wrong with an object's key: empty, longer than 1,024
// bytes, not UTF-8, with a control character, with an empty segment, a segment "."
// or "..", or under the reserved .weir-tmp. Every driver calls it.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("objstore: %w: it is empty", ErrKey)
	case len(key) > 1024:
		return fmt.Errorf("objstore: %w %.40q...: %d bytes, at most 1024", ErrKey, key, len(key))
	case !utf8.ValidString(key):
		return fmt.Errorf("objstore: %w %q: not UTF-8", ErrKey, key)
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] == 0x7f {
			return fmt.Errorf("objstore: %w %q: it has a control character", ErrKey, key)
		}
	}
	for seg := range strings.SplitSeq(key, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return fmt.Errorf("objstore: %w %q: it has a segment %q", ErrKey, key, seg)
		}
	}
	if key == tempDir || strings.HasPrefix(key, tempDir+"/") {
		return fmt.Errorf("objstore: %w %q: %s is reserved for unfinished objects", ErrKey, key, tempDir)
	}
	return nil
}

// Check reports a bad key, or the cause of a context that is done: every driver
// begins its calls with it.
func Check(ctx context.Context, keys ...string) error {
	for _, k := range keys {
		if err := CheckKey(k); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// JoinKey joins segments by '/', leaving out the empty ones.
func JoinKey(segments ...string) string {
	kept := make([]string, 0, len(segments))
	for _, s := range segments {
		if s = strings.Trim(s, "/"); s != "" {
			kept = append(kept, s)
		}
	}
	return strings.Join(kept, "/")
}
