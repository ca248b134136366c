package driver

import (
	"encoding/json"
	"fmt"

	"github.com/weirstream/weir/stream/spi"
)

// endTxnVersion is the version of the EndTxn request that commits a prepared
// transaction. It is never changed between tries: with an older one a late repeat
// commits a newer transaction of the same id.
const endTxnVersion = 5

// A handle names a prepared transaction: what EndTxn needs, without the client
// that wrote it.
type handle struct {
	ID      string `json:"id"` // transactional id
	PID     int64  `json:"pid"`
	Epoch   int16  `json:"epoch"` // of the producer
	Version int16  `json:"v"`     // of EndTxn
	Records int64  `json:"records"`
	Marked  bool   `json:"marked,omitempty"` // a commit marker is part of the transaction
}

func (h handle) String() string {
	return fmt.Sprintf("%s (producer %d, producer epoch %d)", h.ID, h.PID, h.Epoch)
}

func (h handle) encode() []byte {
	b, _ := json.Marshal(h) // of plain fields: cannot fail
	return b
}

func parseHandle(b []byte) (handle, error) {
	var h handle
	if err := json.Unmarshal(b, &h); err != nil || h.ID == "" {
		return h, fmt.Errorf("kafka sink: a prepared transaction's handle is damaged: %q: %w", b, spi.ErrStop)
	}
	if h.Version != endTxnVersion {
		return h, fmt.Errorf("kafka sink: prepared transaction %v was made for EndTxn version %d, this worker sends version %d: restore with the version of Weir that wrote it: %w", h, h.Version, endTxnVersion, spi.ErrStop)
	}
	return h, nil
}

// writerState is what a writer keeps in the checkpoint: which transactional ids
// may be in use.
type writerState struct {
	Prefix string `json:"prefix"`
	IDs    int    `json:"ids"` // ids 0..IDs-1 of this subtask
}

func transactionalID(prefix string, subtask, k int) string {
	return fmt.Sprintf("%s-%d-%d", prefix, subtask, k)
}
