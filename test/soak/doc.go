// Package soak has no code of its own: its test kills three servers on one store at random, for as long as SOAK says.
package soak
