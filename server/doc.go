// Package server wires the parts together; it is the only package that knows them all.
package server
