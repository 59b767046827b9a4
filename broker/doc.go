// Package broker keeps leases: every credential it has made is revoked on time, whatever happens in between.
package broker
