package driver

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/dataflow"
	"github.com/weirstream/weir/stream/spi"
)

// Producers holds the clients that the subtasks of one sink in one process share where
// no transaction keeps them apart: rows that they write at the same time then travel
// in one request to each broker, not in one for each subtask. The zero value is ready
// to use, by any goroutine.
type Producers struct {
	mu     sync.Mutex
	shared map[sinkAttempt]*sharedProducer
}

// A sinkAttempt is what the subtasks of one sink in one attempt have in common.
type sinkAttempt struct {
	pipeline dataflow.Pipeline
	operator dataflow.OperatorID
	attempt  dataflow.Attempt
}

type sharedProducer struct {
	client *kgo.Client
	users  int
}

// open returns the client of the sink of env, made by make1 if this is its first
// subtask, and what gives it back: the last one closes it. A nil Producers shares
// nothing.
func (p *Producers) open(env spi.Env, make1 func() (*kgo.Client, error)) (*kgo.Client, func(), error) {
	if p == nil {
		client, err := make1()
		if err != nil {
			return nil, nil, err
		}
		return client, client.Close, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k := sinkAttempt{env.Pipeline, env.Operator, env.Attempt}
	s := p.shared[k]
	if s == nil {
		client, err := make1()
		if err != nil {
			return nil, nil, err
		}
		s = &sharedProducer{client: client}
		if p.shared == nil {
			p.shared = map[sinkAttempt]*sharedProducer{}
		}
		p.shared[k] = s
	}
	s.users++
	return s.client, func() { p.giveBack(k, s) }, nil
}

func (p *Producers) giveBack(k sinkAttempt, s *sharedProducer) {
	p.mu.Lock()
	s.users--
	last := s.users == 0
	if last {
		delete(p.shared, k)
	}
	p.mu.Unlock()
	if last {
		s.client.Close()
	}
}
