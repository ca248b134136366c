package state

import (
	"errors"
	"fmt"
)

// ErrClosed reports a call on a closed store.
var ErrClosed = errors.New("state: store is closed")

// A CorruptError says that an object's bytes are not what the manifest promised,
// and that no good local copy was found. The attempt must fail; restoring the same
// checkpoint again fails again.
type CorruptError struct {
	Object string // key in the checkpoint store; "" if the file was never uploaded
	Offset int64
	Length int64
	Want   uint32 // CRC32C by the manifest
	Got    uint32
	Local  string // the local copy that was tried first, if any
}

func (e *CorruptError) Error() string {
	where := fmt.Sprintf("object %s, bytes %d to %d", e.Object, e.Offset, e.Offset+e.Length)
	if e.Object == "" {
		where = "local file " + e.Local
	}
	msg := fmt.Sprintf("state: %s: checksum is %08x, the manifest says %08x", where, e.Got, e.Want)
	if e.Object != "" && e.Local != "" {
		msg += ", and the local copy " + e.Local + " is no better"
	}
	return msg + ": restore an earlier checkpoint"
}
