// Package producertest is the contract of a producer as tests.
package producertest
