package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/objstore"
)

// ManifestVersion is the format written; readers refuse newer ones.
const ManifestVersion = 1

// Kind says why an epoch was opened.
type Kind string

// The kinds of epochs.
const (
	Periodic  Kind = "checkpoint" // by the interval; retention applies
	OnDemand  Kind = "on-demand"  // asked for; retention applies
	Savepoint Kind = "savepoint"  // asked for and owned by the user; kept until disposed of
	Suspend   Kind = "suspend"    // of an orderly shutdown, resumed by the next start; retention applies
	Final     Kind = "final"      // after the end of all input
	Adopted   Kind = "adopted"    // copied from a savepoint that another pipeline or cluster owns; retention applies
)

// A Manifest names everything that one epoch consists of. It is immutable and
// lies at ManifestKey.
type Manifest struct {
	Version    int                  `json:"version"`
	Pipeline   dataflow.Pipeline    `json:"pipeline"`
	Job        dataflow.JobID       `json:"job"`
	Attempt    dataflow.Attempt     `json:"attempt"`
	Term       dataflow.Term        `json:"term"`
	Epoch      dataflow.Epoch       `json:"epoch"`
	Kind       Kind                 `json:"kind"`
	TimeMicros int64                `json:"time_us"` // when the epoch was opened
	Pack       string               `json:"pack"`    // hash of the job's pack
	Plan       dataflow.Plan        `json:"plan"`
	States     []dataflow.StateInfo `json:"states,omitempty"`
	Parts      []dataflow.Part      `json:"parts"`
	// Origin is what an adopted one was copied from.
	Origin *Origin `json:"origin,omitempty"`
}

// Origin is the checkpoint that another was copied from.
type Origin struct {
	Pipeline dataflow.Pipeline `json:"pipeline"`
	Epoch    dataflow.Epoch    `json:"epoch"` // what the output of sinks stands at
	Key      string            `json:"key"`
}

// Committed returns the epoch whose output the state of m goes with: its own, unless
// it was copied.
func (m *Manifest) Committed() dataflow.Epoch {
	if m.Origin != nil {
		return m.Origin.Epoch
	}
	return m.Epoch
}

// A Ref names a published manifest.
type Ref struct {
	Epoch dataflow.Epoch `json:"epoch"`
	Kind  Kind           `json:"kind"`
	Key   string         `json:"key"`  // object key of the manifest
	Hash  string         `json:"hash"` // SHA-256 of its bytes, hex
	Bytes int64          `json:"bytes"`
}

// EpochDir returns the folder that holds the objects of an epoch.
func EpochDir(p dataflow.Pipeline, e dataflow.Epoch) string {
	return objstore.JoinKey("pipelines", string(p), "epochs", fmt.Sprintf("%020d", e))
}

// EpochsDir returns the folder of all epochs of a pipeline, with a slash.
func EpochsDir(p dataflow.Pipeline) string {
	return objstore.JoinKey("pipelines", string(p), "epochs") + "/"
}

// ManifestKey and MarkerKey return where an epoch's manifest and its marker lie.
func ManifestKey(p dataflow.Pipeline, e dataflow.Epoch) string {
	return objstore.JoinKey(EpochDir(p, e), "manifest.json")
}

// MarkerKey returns where an epoch's marker lies; it is written after the Raft
// entry, and restore by path demands it.
func MarkerKey(p dataflow.Pipeline, e dataflow.Epoch) string {
	return objstore.JoinKey(EpochDir(p, e), "complete")
}

// FinishedKey returns where it is told that all output of an epoch is committed.
func FinishedKey(p dataflow.Pipeline, e dataflow.Epoch) string {
	return objstore.JoinKey(EpochDir(p, e), "finished")
}

// DataKey returns where a worker puts the rows of all its parts of an epoch.
func DataKey(p dataflow.Pipeline, e dataflow.Epoch, a dataflow.Attempt, worker string) string {
	return objstore.JoinKey(EpochDir(p, e), fmt.Sprintf("%s-%d.data", worker, a))
}

// EpochOf returns the epoch under whose folder the object lies; ok is false for
// keys outside the pipeline's epochs.
func EpochOf(p dataflow.Pipeline, key string) (e dataflow.Epoch, ok bool) {
	rest, ok := strings.CutPrefix(key, EpochsDir(p))
	if !ok {
		return 0, false
	}
	dir, _, ok := strings.Cut(rest, "/")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(dir, 10, 64)
	return dataflow.Epoch(n), err == nil
}

// Encode returns the bytes of m and their hash.
func (m *Manifest) Encode() (b []byte, hash string, err error) {
	b, err = json.Marshal(m)
	if err != nil {
		return nil, "", fmt.Errorf("checkpoint: manifest of epoch %d: %w", m.Epoch, err)
	}
	return b, HashOf(b), nil
}

// HashOf returns the hex SHA-256 of manifest bytes.
func HashOf(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// Decode reads the bytes of a manifest.
func Decode(b []byte) (*Manifest, error) {
	m := new(Manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("checkpoint: manifest is damaged: %w", err)
	}
	if m.Version < 1 || m.Version > ManifestVersion {
		return nil, fmt.Errorf("checkpoint: manifest has version %d, this weir reads up to %d: use a newer weir", m.Version, ManifestVersion)
	}
	if m.Epoch == 0 || m.Pipeline == "" {
		return nil, fmt.Errorf("checkpoint: manifest names no pipeline or epoch")
	}
	return m, nil
}

// Objects returns the keys of all objects that parts of m name.
func (m *Manifest) Objects() map[string]bool {
	out := map[string]bool{}
	for i := range m.Parts {
		for _, f := range m.Parts[i].Files {
			if f.Object != "" {
				out[f.Object] = true
			}
		}
	}
	return out
}

// Bytes returns the bytes that m's files hold and how many of them were new.
func (m *Manifest) Bytes() (total, fresh int64) {
	for i := range m.Parts {
		for _, f := range m.Parts[i].Files {
			total += f.Length
		}
		fresh += m.Parts[i].NewBytes
	}
	return total, fresh
}
