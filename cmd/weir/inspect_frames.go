package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/weirstream/weir/actors/channel"
	"github.com/weirstream/weir/actors/frame"
	"github.com/weirstream/weir/dataflow"
)

// A frameLine is a frame as docs/format/frame.md describes it.
type frameLine struct {
	Offset  int              `json:"offset"`
	Bytes   int              `json:"bytes"`
	Type    string           `json:"type"`
	Channel string           `json:"channel"` // as the channel writes itself
	Attempt dataflow.Attempt `json:"attempt"`
	Seq     uint64           `json:"seq"`
	Part    uint32           `json:"part"`
	More    bool             `json:"more"`
	Payload int              `json:"payload_bytes"`
	Holds   string           `json:"holds,omitempty"` // what the payload says, without the rows
}

// inspectFrames prints the frames of a connection that was recorded to a file.
func inspectFrames(w io.Writer, path string, asJSON bool) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	for at := 0; at < len(b); {
		f, n, err := frame.Parse(b[at:])
		if err != nil {
			return fmt.Errorf("%s: at offset %d: %w", path, at, err)
		}
		if n == 0 {
			return fmt.Errorf("%s: at offset %d: the last frame is cut: %d bytes are left of it", path, at, len(b)-at)
		}
		line := frameLine{Offset: at, Bytes: n, Type: frameType(f.Type), Channel: f.Channel.String(), Attempt: f.Attempt, Seq: f.Seq, Part: f.Part, More: f.More,
			Payload: len(f.Payload), Holds: frameHolds(f)}
		if asJSON {
			err = enc.Encode(line)
		} else {
			more := ""
			if f.More {
				more = "  more"
			}
			_, err = fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%8d  %-9s  channel %s  attempt %d  seq %d  part %d  %d bytes%s  %s",
				at, line.Type, line.Channel, f.Attempt, f.Seq, f.Part, n, more, line.Holds), " "))
		}
		if err != nil {
			return err
		}
		at += n
	}
	return nil
}

func frameType(t frame.Type) string {
	switch {
	case t == frame.Credit:
		return "credit"
	case channel.Kind(t) >= channel.Rows && channel.Kind(t) <= channel.End:
		return channel.Kind(t).String()
	}
	return fmt.Sprintf("type %d", t)
}

// frameHolds says what a frame that needs no codec carries.
func frameHolds(f frame.Frame) string {
	if f.Part > 0 {
		return ""
	}
	p := f.Payload
	switch {
	case f.Type == frame.Credit:
		c, err := frame.ParseCredit(f)
		if err != nil {
			return err.Error()
		}
		if c.Timer == math.MaxInt64 {
			return fmt.Sprintf("%d rows, %d bytes", c.Rows, c.Bytes)
		}
		return fmt.Sprintf("%d rows, %d bytes, acts at %s", c.Rows, c.Bytes, moment(c.Timer))
	case channel.Kind(f.Type) == channel.Rows:
		if n, k := binary.Uvarint(p); k > 0 {
			return fmt.Sprintf("%d bytes of credit spent", n)
		}
	case channel.Kind(f.Type) == channel.Watermark && len(p) == 8:
		return moment(int64(binary.LittleEndian.Uint64(p)))
	case channel.Kind(f.Type) == channel.Barrier && len(p) == 16:
		return fmt.Sprintf("epoch %d, complete %d", binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:]))
	case len(p) == 0:
		return ""
	}
	return "a payload that does not parse"
}

func moment(micros int64) string {
	switch micros {
	case dataflow.MinTime:
		return "the beginning"
	case dataflow.MaxTime:
		return "the end"
	}
	return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano)
}
