// Package testenv installs, builds and starts the real servers that tests and the demo talk to.
package testenv
