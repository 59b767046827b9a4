package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"filippo.io/age"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Keyset is the set of data keys. One is primary and seals; all of them open. It is a Sealer.
type Keyset struct {
	root *Root

	rotate sync.Mutex // one rotation at a time

	mu     sync.RWMutex
	handle *keyset.Handle
	cipher tink.AEAD
}

var _ Sealer = (*Keyset)(nil)

// NewKeyset makes a keyset with one key. sealed is the keyset sealed to the root key: keep it durably before the first
// value is sealed.
func NewKeyset(root *Root) (sealed []byte, k *Keyset, err error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, nil, fmt.Errorf("making data keys: %w", err)
	}
	if k, err = newKeyset(root, h); err != nil {
		return nil, nil, err
	}
	if sealed, err = sealHandle(root, h); err != nil {
		return nil, nil, err
	}
	return sealed, k, nil
}

// OpenKeyset opens what NewKeyset or Rotate sealed. It fails with ErrRootKey where root is another key.
func OpenKeyset(root *Root, sealed []byte) (*Keyset, error) {
	wrap := &rootAEAD{root: root}
	h, err := keyset.Read(keyset.NewBinaryReader(bytes.NewReader(sealed)), wrap)
	if wrap.err != nil { // tink keeps only the text of it
		err = wrap.err
	}
	if err != nil {
		return nil, fmt.Errorf("opening the data keys: %w", err)
	}
	return newKeyset(root, h)
}

// Seal encrypts plain with the primary key, bound to where.
func (k *Keyset) Seal(plain []byte, where string) ([]byte, error) {
	b, err := k.current().Encrypt(plain, []byte(where))
	if err != nil {
		return nil, fmt.Errorf("sealing %s: %w", where, err)
	}
	return b, nil
}

// Open decrypts what any key of the set sealed for the same where; ErrOpen otherwise.
func (k *Keyset) Open(sealed []byte, where string) ([]byte, error) {
	b, err := k.current().Decrypt(sealed, []byte(where))
	if err != nil { // tink says no more than that it did not work
		return nil, fmt.Errorf("opening %s: %w", where, ErrOpen)
	}
	return b, nil
}

// Rotate adds a key and makes it primary. keep must store the sealed new keyset durably, in place of the old one: the key
// is used only when keep has returned nil, so that no value is ever sealed with a key that a crash could lose. Values that
// are sealed meanwhile use the old key. Other processes with the same keyset must open it anew to read what comes after.
func (k *Keyset) Rotate(keep func(sealed []byte) error) error {
	k.rotate.Lock()
	defer k.rotate.Unlock()
	m := keyset.NewManagerFromHandle(k.handle) // handle changes only under rotate
	id, err := m.Add(aead.AES256GCMKeyTemplate())
	if err == nil {
		err = m.SetPrimary(id)
	}
	if err != nil {
		return fmt.Errorf("adding a data key: %w", err)
	}
	h, err := m.Handle()
	if err != nil {
		return fmt.Errorf("adding a data key: %w", err)
	}
	next, err := newKeyset(k.root, h)
	if err != nil {
		return err
	}
	sealed, err := sealHandle(k.root, h)
	if err != nil {
		return err
	}
	if err := keep(sealed); err != nil {
		return fmt.Errorf("keeping the new data keys: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.handle, k.cipher = next.handle, next.cipher
	return nil
}

// Len is the number of keys in the set.
func (k *Keyset) Len() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.handle.Len()
}

func (k *Keyset) current() tink.AEAD {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.cipher
}

func newKeyset(root *Root, h *keyset.Handle) (*Keyset, error) {
	c, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("using the data keys: %w", err)
	}
	return &Keyset{root: root, handle: h, cipher: c}, nil
}

func sealHandle(root *Root, h *keyset.Handle) ([]byte, error) {
	var out bytes.Buffer
	if err := h.Write(keyset.NewBinaryWriter(&out), &rootAEAD{root: root}); err != nil {
		return nil, fmt.Errorf("sealing the data keys: %w", err)
	}
	return out.Bytes(), nil
}

// rootAEAD lets tink seal a keyset to an age recipient. It serves one call and keeps its error.
type rootAEAD struct {
	root *Root
	err  error
}

// Encrypt seals plain to the root key. There is only one keyset, so associated data must be empty.
func (a *rootAEAD) Encrypt(plain, associated []byte) ([]byte, error) {
	if len(associated) != 0 {
		return nil, errors.New("associated data is not possible with a root key")
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, a.root.id().Recipient())
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Decrypt opens what Encrypt sealed.
func (a *rootAEAD) Decrypt(sealed, _ []byte) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), a.root.id())
	var other *age.NoIdentityMatchError
	if errors.As(err, &other) {
		a.err = ErrRootKey
		return nil, a.err
	}
	var plain []byte
	if err == nil {
		plain, err = io.ReadAll(r)
	}
	if err != nil {
		a.err = fmt.Errorf("the sealed keyset is damaged: %w", err)
	}
	return plain, a.err
}
