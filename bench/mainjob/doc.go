// Package mainjob is the workload that most jobs are: JSON records from Kafka
// through keyed actors into a Delta table, and parts of it alone, to tell what
// each costs.
//
// A record is 255 bytes of JSON with seven columns, all of which are decoded.
//
// Concurrency: what is exported is immutable or a function. Durability: that of
// jobs.
package mainjob
