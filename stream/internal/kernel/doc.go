// Package kernel holds every generic of the engine: batches, operators, routers,
// the typed half of sources, and keyed state in typed tables.
//
// Package stream instantiates it with the types of a job, so it is part of every
// plugin; the host sees only the interfaces of package spi.
//
// Concurrency: everything here is confined to the turn of one subtask unless a
// type says otherwise. Nothing starts a goroutine, reads a clock or does I/O.
//
// Durability: none of its own; state is rows handed to the host (spi.Frozen).
package kernel
