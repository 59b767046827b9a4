// Package api is Bailiff's own HTTP/JSON interface: types, server and client.
package api
