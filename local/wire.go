package local

import (
	"io"
	"sync"

	"github.com/weirstream/weir/internal/control"
)

// A wire is a control.Link that writes a JSON object a line. What cannot be
// written is lost: the other side is gone then.
type wire struct {
	mu sync.Mutex
	to io.Writer
}

func (w *wire) Send(m control.Message) {
	b, err := control.Encode(m)
	if err != nil {
		panic(err) // a message of ours without an encoding
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = w.to.Write(append(b, '\n')) // a lost message is the protocol's to repeat
}
