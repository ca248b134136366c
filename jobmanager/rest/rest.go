// Package rest is the job manager's HTTP API, on Flink's paths where Flink has
// them, and the page that shows a running cluster.
//
// Every answer is JSON; a refusal is {"errors": ["one sentence"]} with a status of
// 400 or above. Paths: openapi.json beside this file, served at /openapi.json.
//
// Concurrency: the handler may be used by any number of requests at a time.
package rest

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/jobmanager"
	"github.com/weirstream/weir/jobmanager/fsm"
)

// A RunRequest asks for a job.
type RunRequest struct {
	Pack        string            `json:"pack"`           // what Upload answered, or a path on the job manager's machine
	Name        string            `json:"name,omitempty"` // pipeline; the pack's name
	Params      map[string]string `json:"params,omitempty"`
	Parallelism int               `json:"parallelism,omitempty"`
	KeyGroups   int               `json:"max_parallelism,omitempty"`
	Options     fsm.Options       `json:"options"`
	Restore     string            `json:"restore,omitempty"` // object key of a manifest
	SkipState   bool              `json:"allow_non_restored_state,omitempty"`
	LoseOutput  bool              `json:"allow_lost_output,omitempty"`
}

// A Runner opens packs, which the job manager never does.
type Runner interface {
	// Upload keeps a pack and returns what a RunRequest names it by.
	Upload(ctx context.Context, body io.Reader) (pack string, err error)
	Run(ctx context.Context, r RunRequest) (dataflow.JobID, error)
}

// MaxPackBytes is the largest pack that is taken.
const MaxPackBytes = 1 << 30

//go:embed openapi.json
var openapi []byte

//go:embed page.html
var page []byte

type api struct {
	jobs   *jobmanager.Manager
	runner Runner
}

// Handler serves the API and the page.
func Handler(jobs *jobmanager.Manager, runner Runner, metrics http.Handler) http.Handler {
	a := &api{jobs, runner}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", serve("text/html; charset=utf-8", page))
	mux.HandleFunc("GET /openapi.json", serve("application/json", openapi))
	mux.HandleFunc("GET /overview", a.overview)
	mux.HandleFunc("GET /jobs", a.list)
	mux.HandleFunc("GET /jobs/overview", a.list)
	mux.HandleFunc("GET /jobs/{id}", a.info)
	mux.HandleFunc("GET /jobs/{id}/checkpoints", a.checkpoints)
	mux.HandleFunc("POST /packs", a.upload)
	mux.HandleFunc("POST /jobs", a.run)
	mux.HandleFunc("PATCH /jobs/{id}", a.cancel)
	mux.HandleFunc("POST /jobs/{id}/stop", a.stop)
	mux.HandleFunc("PATCH /jobs/{id}/rescaling", a.rescale)
	mux.HandleFunc("POST /jobs/{id}/savepoints", a.epoch(true))
	mux.HandleFunc("POST /jobs/{id}/checkpoints", a.epoch(false))
	mux.HandleFunc("DELETE /pipelines/{pipeline}/savepoints/{epoch}", a.dispose)
	if metrics != nil {
		mux.Handle("GET /metrics", metrics)
	}
	return mux
}

func serve(kind string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Write(body)
	}
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code := http.StatusBadRequest
		if errors.Is(err, jobmanager.ErrNoJob) {
			code = http.StatusNotFound
		}
		w.WriteHeader(code)
		v = map[string][]string{"errors": {err.Error()}}
	}
	json.NewEncoder(w).Encode(v)
}

func (a *api) overview(w http.ResponseWriter, _ *http.Request) {
	counts := map[fsm.Phase]int{}
	for _, j := range a.jobs.Jobs() {
		counts[j.Phase]++
	}
	answer(w, map[string]any{"jobs": counts}, nil)
}

func (a *api) list(w http.ResponseWriter, _ *http.Request) {
	jobs := a.jobs.Jobs()
	if jobs == nil {
		jobs = []jobmanager.Info{}
	}
	answer(w, map[string]any{"jobs": jobs}, nil)
}

func (a *api) info(w http.ResponseWriter, r *http.Request) {
	i, err := a.jobs.Job(r.PathValue("id"))
	answer(w, i, err)
}

func (a *api) checkpoints(w http.ResponseWriter, r *http.Request) {
	i, err := a.jobs.Job(r.PathValue("id"))
	answer(w, map[string]any{"history": i.Checkpoints, "completed": i.Epochs}, err)
}

func (a *api) upload(w http.ResponseWriter, r *http.Request) {
	pack, err := a.runner.Upload(r.Context(), http.MaxBytesReader(w, r.Body, MaxPackBytes))
	answer(w, map[string]string{"pack": pack}, err)
}

func (a *api) run(w http.ResponseWriter, r *http.Request) {
	var req RunRequest
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		answer(w, nil, err)
		return
	}
	id, err := a.runner.Run(r.Context(), req)
	answer(w, map[string]dataflow.JobID{"jobid": id}, err)
}

// id resolves a job id or pipeline name to the job's id.
func (a *api) id(r *http.Request) (dataflow.JobID, error) {
	i, err := a.jobs.Job(r.PathValue("id"))
	return i.ID, err
}

func (a *api) cancel(w http.ResponseWriter, r *http.Request) {
	id, err := a.id(r)
	if mode := r.URL.Query().Get("mode"); err == nil && mode != "" && mode != "cancel" {
		err = errors.New("mode " + strconv.Quote(mode) + " is unknown: the only one is cancel")
	}
	if err == nil {
		err = a.jobs.Cancel(r.Context(), id)
	}
	answer(w, map[string]dataflow.JobID{"jobid": id}, err)
}

// A Savepoint says where an epoch lies.
type Savepoint struct {
	Job      dataflow.JobID `json:"jobid"`
	Epoch    dataflow.Epoch `json:"epoch"`
	Location string         `json:"location"` // object key of the manifest
}

func savepoint(id dataflow.JobID, ref checkpoint.Ref) Savepoint {
	return Savepoint{id, ref.Epoch, ref.Key}
}

func (a *api) stop(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Drain bool `json:"drain"`
	}
	id, err := a.id(r)
	if err == nil && r.ContentLength != 0 {
		err = json.NewDecoder(r.Body).Decode(&req)
	}
	var ref checkpoint.Ref
	if err == nil {
		ref, err = a.jobs.Stop(r.Context(), id, req.Drain)
	}
	answer(w, savepoint(id, ref), err)
}

func (a *api) rescale(w http.ResponseWriter, r *http.Request) {
	id, err := a.id(r)
	text := r.URL.Query().Get("parallelism")
	p, perr := strconv.Atoi(text)
	if err == nil && perr != nil {
		err = errors.New("parallelism " + strconv.Quote(text) + " is not a number")
	}
	var ref checkpoint.Ref
	if err == nil {
		ref, err = a.jobs.Rescale(r.Context(), id, p)
	}
	answer(w, savepoint(id, ref), err)
}

func (a *api) epoch(save bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := a.id(r)
		var ref checkpoint.Ref
		if err == nil {
			ctx, cancel := context.WithTimeout(r.Context(), 10*time.Minute)
			defer cancel()
			ref, err = a.jobs.Checkpoint(ctx, id, save)
		}
		answer(w, savepoint(id, ref), err)
	}
}

func (a *api) dispose(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseUint(r.PathValue("epoch"), 10, 64)
	if err == nil {
		err = a.jobs.Dispose(r.Context(), dataflow.Pipeline(r.PathValue("pipeline")), dataflow.Epoch(n))
	}
	answer(w, struct{}{}, err)
}
