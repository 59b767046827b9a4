// Package seal encrypts what the store must not hold in the clear.
//
// There are two layers. The root key is an age X25519 identity in a file that only its owner may read. The data keys are a
// tink AES-256-GCM keyset, which is kept in the store, sealed to the root key. Whoever has the store alone has nothing, and
// the root key can be moved without touching a row.
package seal

import "errors"

// ErrOpen is returned for a sealed value that was changed, was sealed for another place, or with a key that is not here.
var ErrOpen = errors.New("the sealed value can't be opened: it was changed, moved here from another place, or sealed with another keyset")

// ErrRootKey is returned when the root key is not the one that the keyset was sealed to.
var ErrRootKey = errors.New("this is not the root key that the store's keys were sealed with")

// Sealer seals and opens bytes that belong to one place: where names it ("table|key|column"), so that a sealed value can't
// be moved to another. It is safe for concurrent use.
type Sealer interface {
	Seal(plain []byte, where string) ([]byte, error)
	Open(sealed []byte, where string) ([]byte, error)
}
