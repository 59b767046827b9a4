// Package vpath turns a request target into the one path that is judged and sent on.
package vpath
