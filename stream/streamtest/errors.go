package streamtest

import "errors"

var errEnded = errors.New("the source has ended")
