// Package pack makes and opens packs: a job's plugin with what the cluster must
// know of it before it loads any user code.
//
// A pack is a zip file (.wj) with manifest.json and job.so. Build runs the Go
// toolchain with the flags of the worker that will load the plugin, then loads
// the result once in a scratch process, which writes the manifest.
//
// Concurrency: Build and Open may be called from any goroutine; a Loader too.
package pack
