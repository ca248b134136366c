package failpoint

import (
	"fmt"
	"strconv"
)

// EnvSpoil names the environment variable that spoils epochs: with n, every n-th
// one is declined or never acked.
const EnvSpoil = "WEIR_SPOIL_EPOCHS"

// A Spoil is a way in which an epoch is made to come to nothing.
type Spoil int

// The ways to spoil an epoch; the zero value leaves it alone.
const (
	Unspoiled    Spoil = iota
	DeclineEarly       // the first part is declined while others are still being made
	DeclineLate        // the last part is declined after everything was uploaded
	LoseAck            // the last ack is lost: the epoch times out
)

// SpoilOf returns how the epoch is to be spoiled. The same number gives the same
// answer in every process; of four spoiled epochs one times out.
func SpoilOf(epoch int64) Spoil {
	s := current()
	if s.spoil == 0 || epoch%s.spoil != 0 {
		return Unspoiled
	}
	return []Spoil{DeclineEarly, DeclineLate, LoseAck, DeclineLate}[epoch/s.spoil%4]
}

func parseSpoil(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("failpoint: %s: %q: want a number from 1: every how many epochs one is spoiled", EnvSpoil, text)
	}
	return n, nil
}
