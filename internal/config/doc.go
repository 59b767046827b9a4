// Package config reads HCL files: the server's configuration and the objects that apply takes.
//
// Both are read strictly: an unknown key or block, a value of the wrong type and a key that is there twice are errors with
// their file, line and column. All that is wrong is reported at once, each as an *Error, joined by errors.Join. No error
// holds a value that came from env() or file().
package config
