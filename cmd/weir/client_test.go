package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// A job that fails before it has run is cancelled; one with a checkpoint of its own has
// run, and cancelling it would give that up.
func TestOnlyAJobThatNeverRanIsCancelled(t *testing.T) {
	record := fsm.EpochRecord{Ref: checkpoint.Ref{Epoch: 3, Kind: checkpoint.Periodic}}
	for _, tt := range []struct {
		name   string
		info   jobmanager.Info
		cancel bool
	}{
		{"fresh", jobmanager.Info{}, true},
		{"resumed", jobmanager.Info{After: 3, Epochs: []fsm.EpochRecord{record}}, true},
		{"ran", jobmanager.Info{After: 2, Epochs: []fsm.EpochRecord{record}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cancelled := false
			tt.info.Phase, tt.info.Reason = fsm.Restarting, "no such topic"
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "PATCH" {
					cancelled = true
					_, _ = w.Write([]byte("{}"))
					return
				}
				if err := json.NewEncoder(w).Encode(tt.info); err != nil {
					t.Error(err)
				}
			}))
			defer s.Close()
			c := &client{addr: strings.TrimPrefix(s.URL, "http://")}
			if err := c.awaitRunning(t.Context(), "job-000001"); (err != nil) != tt.cancel || cancelled != tt.cancel {
				t.Errorf("cancelled: %v, %v; want %v", cancelled, err, tt.cancel)
			}
		})
	}
}
