// Package sqlite keeps objects, access keys and leases in one SQLite file.
package sqlite
