// Package arch holds the import rule as a table and a test.
package arch
