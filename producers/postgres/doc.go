// Package postgres makes roles on PostgreSQL servers.
//
// A credential is a role of the form bl-<role8>-<20 letters>; the package touches no other. Create runs the role's creation
// statements in one transaction that the server itself refuses past the deadline. Revoke takes the role's login away first,
// ends its sessions, and then removes it. README.md is for operators.
package postgres
