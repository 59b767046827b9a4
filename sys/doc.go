// Package sys serves the paths that are Bailiff's own: sys/ and auth/token/.
//
// What Vault has too is answered in Vault's shapes, and takes the fields that it doesn't know as Vault does: with a
// warning. What is only ours stands under sys/bailiff/ and is strict. The table of paths is in route.go; a path that Vault
// serves and we don't is answered with words, so that nobody takes silence for success.
package sys
