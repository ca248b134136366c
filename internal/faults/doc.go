// Package faults proves exactly-once from outside: it runs the weir binary as users
// do, kills it with SIGKILL at random moments and at every named fault point, and
// lets programs that share no code with Weir judge the table and the topic.
//
// The input is the numbers 0, 1, 2, ...; number i has the key i mod K and lies in a
// partition that its key decides, so that the rows of a key are made in the order of
// their ids. From its id alone follows what a row must hold:
//
//	key = id mod K   count = id/K + 1   sum = count*key + K*count*(count-1)/2
//
// and the whole output is right if every id is there once and every row holds that.
// A lost, doubled or stale state changes a count or a sum.
//
// All is in tests; job is the job that they run. WEIR_FAULTS=full makes the long run
// (make faults), WEIR_NO_SKIP=1 turns missing judges into failures.
//
// Concurrency: none of its own. Durability: the broker is a process of its own and
// is never killed here; it forgets open transactions when it is.
package faults
