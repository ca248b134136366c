package spi

import "errors"

// ErrStop marks an error that no retry or restart can cure: the job stops and
// says why. Wrap it: fmt.Errorf("...: %w", spi.ErrStop).
var ErrStop = errors.New("the job must stop")
