// Package sys serves the paths that are Bailiff's own: sys/ and auth/token/.
package sys
