// Package pack makes and opens packs: a job's code with what the cluster must know
// of it before it runs any.
//
// A pack is a zip file (.wj) with manifest.json and one of
//
//	job.so  a Go plugin, for exactly the weir that it was built for
//	job     an executable of job and worker (a static pack), for any weir
//
// Build runs the Go toolchain as that weir was built (workspace.go says how a job of
// another module gets the very packages that weir has), compares what both link
// (clash.go), then loads the result once in a scratch process, which writes the
// manifest (inspect.go).
//
// Concurrency: Build and Open may be called from any goroutine; a Loader too.
//
// Durability: a pack appears whole under its name, or not at all.
package pack
