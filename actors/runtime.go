package actors

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/weirstream/weir/internal/clock"
)

// A Runtime hosts the subtasks of one worker on one protoactor system.
type Runtime struct {
	clock  clock.Clock
	log    *slog.Logger
	exec   Executor
	system *actor.ActorSystem
	pool   sync.Pool // of *items

	mu   sync.Mutex
	open int // attempts not stopped; guarded by mu
}

// New returns a runtime without subtasks. It starts no goroutine.
func New(o RuntimeOptions) *Runtime {
	if o.Clock == nil {
		o.Clock = clock.Wall()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Executor == nil {
		o.Executor = Goroutines{}
	}
	return &Runtime{
		clock: o.Clock, log: o.Log, exec: o.Executor,
		system: actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return o.Log })),
		pool:   sync.Pool{New: func() any { return new(items) }},
	}
}

// Close releases the actor system. Every attempt must have been stopped.
func (r *Runtime) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open > 0 {
		return fmt.Errorf("actors: %d attempts are not stopped: stop them before the runtime", r.open)
	}
	if r.system.IsStopped() {
		return errors.New("actors: the runtime is closed already")
	}
	r.system.Shutdown()
	return nil
}
