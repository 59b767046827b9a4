package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/bailiff-secrets/bailiff/audit/merkle"
	"github.com/bailiff-secrets/bailiff/internal/seal"
)

const metaTrailKey = "audit-key/" // then the node

// signingKey is the key with which a node signs for its trail.
type signingKey struct {
	signer note.Signer
	public string // as text
}

// trailKey is the signing key of a node. It is made once and kept sealed.
func trailKey(ctx context.Context, db onceStore, s seal.Sealer, node string) (*signingKey, error) {
	name := metaTrailKey + node
	place := "meta|" + name + "|value"
	private, public, err := note.GenerateKey(nil, merkle.Origin(node))
	if err != nil {
		return nil, fmt.Errorf("make the key of the audit trail: %w", err)
	}
	sealed, err := s.Seal([]byte(private+"\n"+public), place)
	if err != nil {
		return nil, err
	}
	if _, err := db.PutMetaOnce(ctx, name, sealed); err != nil {
		return nil, fmt.Errorf("store the key of the audit trail: %w", err)
	}
	if sealed, _, err = db.Meta(ctx, name); err != nil {
		return nil, err
	}
	text, err := s.Open(sealed, place)
	if err != nil {
		return nil, fmt.Errorf("open the key of the audit trail: %w", err)
	}
	private, public, _ = strings.Cut(string(text), "\n")
	k := &signingKey{public: public}
	if k.signer, err = note.NewSigner(private); err != nil {
		return nil, fmt.Errorf("the key of the audit trail: %w", err)
	}
	return k, nil
}

// witness is the tree over the trail, and its key. It is a sys.Proofs.
type witness struct {
	*merkle.Tree
	public string
}

// Key is the public key as text.
func (w *witness) Key() string { return w.public }

// openTree opens the tree over the trail. Where the trail is not the one that was signed for, the server does not start:
// somebody has to look.
func (s *server) openTree(k *signingKey) error {
	key, err := merkle.Key(k.public)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.cfg.Audit.Dir, "tree")
	tree, err := merkle.Open(merkle.Config{Dir: dir, Log: s.trail, Signer: k.signer, Key: key, Logger: s.logger})
	if errors.Is(err, merkle.ErrChanged) || errors.Is(err, merkle.ErrSignature) {
		return fmt.Errorf("%w; look at it with \"bailiff audit verify --dir %s\". Bring the trail back from a copy, or, where you know why, "+
			"move %s away to sign for it anew", err, s.cfg.Audit.Dir, dir)
	}
	if err != nil {
		return err
	}
	s.tree = &witness{tree, k.public}
	return nil
}

// follow signs for the trail until ctx ends. That the trail was changed under the running server is recorded and shown, and does
// not stop it.
func (s *server) followTrail(ctx context.Context) error {
	err := s.tree.Run(ctx)
	if !errors.Is(err, merkle.ErrChanged) {
		return err
	}
	s.changed.Store(true)
	s.logger.Error("the audit trail was changed", "error", err)
	return s.event(context.WithoutCancel(ctx), "audit-changed", err.Error())
}
