// Package storetest is the contract of a store as tests.
package storetest
