// Package lint holds the rules of this house as tests: who may import whom, which
// calls are banned where, how large a file may be, and that every package says
// what it is. It has no code but tests; run them with
//
//	go test ./internal/lint
//
// Each test reports every violation at once, with the rule and the cure. A new
// package needs a line in table_test.go; an exception needs its reason there.
//
// Concurrency, durability: none.
package lint
