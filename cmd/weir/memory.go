package main

import "github.com/weirstream/weir/local"

// tuneMemory is for the commands that run tasks in this process.
func tuneMemory(stateBudget int64) { local.TuneMemory(stateBudget) }
