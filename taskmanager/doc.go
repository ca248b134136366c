// Package taskmanager is the node agent: it holds slots, loads jobs, runs the
// subtasks of attempts, uploads their parts and reports to the job manager.
//
// It adapts state and the object store to what package actors declares, and
// speaks package internal/control upwards. It decides nothing: every message it
// acts on was decided by the job manager.
//
// Concurrency: Send may be called from any goroutine and does not block; each
// attempt has one goroutine that owns it.
//
// Durability: none of its own. Everything under Options.Dir is a cache and is
// wiped at start.
package taskmanager
