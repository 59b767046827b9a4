// Package arch holds the import rule as tables, and finds what breaks it. Its test runs over the whole module.
//
// Imports point down only, from one level of the table to a lower one. Packages on the same level don't import one
// another. Each module that isn't ours has the folders that may import it.
package arch
