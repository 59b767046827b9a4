// Package postgres makes roles on PostgreSQL servers.
package postgres
