// Package seal encrypts what the store must not hold in the clear.
package seal

// The contract of this package:
//
//	CreateRootKey(path string) (*Root, error)   // a new file, mode 0600, written whole, fsynced (file and directory); fails where one exists
//	LoadRootKey(path string) (*Root, error)     // refuses a file that others may read
//	NewKeyset(root *Root) (sealed []byte, k *Keyset, err error)   // data keys, sealed to the root key: kept in the store
//	OpenKeyset(root *Root, sealed []byte) (*Keyset, error)
//	(*Keyset).Seal / .Open are a Sealer; (*Keyset).Rotate() adds a key and makes it primary
//
// The root key is an age X25519 identity; the keyset is a tink AES-256-GCM keyset.

// Sealer seals and opens bytes that belong to one place: where names it ("table|key|column"), so that a sealed value can't
// be moved to another. It is safe for concurrent use.
type Sealer interface {
	Seal(plain []byte, where string) ([]byte, error)
	Open(sealed []byte, where string) ([]byte, error)
}
