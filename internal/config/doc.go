// Package config reads HCL files: the server's configuration and the objects that apply takes.
package config
