package taskmanager

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/weirstream/weir/checkpoint"
	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/internal/codec"
	"github.com/weirstream/weir/state"
	"github.com/weirstream/weir/stream/spi"
)

// A stateTable holds the numbers and codecs of a job's states, and the stores
// that are open. lookup, opened, closed and placed are safe for concurrent use.
type stateTable struct {
	infos []dataflow.StateInfo // of the pipeline, with the schemas that this job version adds
	by    map[stateName]stateCodecs

	mu     sync.Mutex
	stores map[*state.Store]bool
}

type stateName struct {
	op   dataflow.OperatorID
	name string
}

type stateCodecs struct {
	id         dataflow.StateID
	key, value spi.Codec
}

// compileStates makes the codecs of a job whose pipeline knows infos. It refuses
// types that cannot read what older versions wrote.
func compileStates(job spi.Job, infos []dataflow.StateInfo) (*stateTable, error) {
	t := &stateTable{infos: slices.Clone(infos), by: map[stateName]stateCodecs{}, stores: map[*state.Store]bool{}}
	for _, op := range job.Graph().Operators {
		for _, st := range job.States(op.Name) {
			i := slices.IndexFunc(t.infos, func(s dataflow.StateInfo) bool { return s.Operator == op.Name && s.Name == st.Name })
			if i < 0 {
				return nil, &RefusedError{fmt.Errorf("operator %q has a state %q that was not in the plan it was submitted with: build the pack again", op.Name, st.Name)}
			}
			c, err := compileState(&t.infos[i], st)
			if err != nil {
				return nil, &RefusedError{fmt.Errorf("state %q of operator %q: %w", st.Name, op.Name, err)}
			}
			t.by[stateName{op.Name, st.Name}] = c
		}
	}
	return t, nil
}

func compileState(info *dataflow.StateInfo, st spi.StateType) (stateCodecs, error) {
	c := stateCodecs{id: info.ID}
	if st.Kind != info.Kind || st.Panes != info.Panes {
		return c, fmt.Errorf("it is a %s now and was a %s", st.Kind, info.Kind)
	}
	if st.Key != nil {
		k, err := codec.Of(st.Key)
		if err != nil {
			return c, err
		}
		if info.Key != "" && info.Key != k.Schema() {
			return c, fmt.Errorf("its key is %s now and was %s: keys cannot change", k.Schema(), info.Key)
		}
		info.Key, c.key = k.Schema(), k
	}
	if st.Value != nil {
		v, schemas, err := codec.NewStateCodec(st.Value, info.Schemas)
		if err != nil {
			return c, err
		}
		info.Schemas, c.value = schemas, v
	}
	return c, nil
}

func (t *stateTable) lookup(op dataflow.OperatorID, name string) (dataflow.StateID, spi.Codec, spi.Codec, error) {
	c, ok := t.by[stateName{op, name}]
	if !ok {
		return 0, nil, nil, fmt.Errorf("operator %q, state %q: %w", op, name, errNoStates)
	}
	return c.id, c.key, c.value, nil
}

func (t *stateTable) opened(s *state.Store) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stores[s] = true
}

func (t *stateTable) closed(s *state.Store) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.stores, s)
}

// placed tells every store where a file was uploaded to; those that do not have
// it ignore that.
func (t *stateTable) placed(local string, p checkpoint.Place) {
	t.mu.Lock()
	stores := slices.Collect(maps.Keys(t.stores))
	t.mu.Unlock()
	for _, s := range stores {
		s.Uploaded(local, p.Object, p.Offset)
	}
}
