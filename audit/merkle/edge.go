package merkle

import "golang.org/x/mod/sumdb/tlog"

const (
	height = 8 // of a tile, as tlog-tiles has it
	width  = 1 << height
)

// edge is the right edge of a tree: of each level of tiles the hashes in the tile that is not full.
type edge struct {
	size   int64
	levels [][]tlog.Hash
}

// add puts a leaf behind the others. full is called for each tile that it fills, from the bottom up, with the tile's hashes,
// which are only lent.
func (e *edge) add(leaf tlog.Hash, full func(level int, n int64, hashes []tlog.Hash) error) error {
	e.size++
	h := leaf
	for level := 0; ; level++ {
		if level == len(e.levels) {
			e.levels = append(e.levels, make([]tlog.Hash, 0, width))
		}
		e.levels[level] = append(e.levels[level], h)
		if len(e.levels[level]) < width {
			return nil
		}
		if err := full(level, e.size>>(height*(level+1))-1, e.levels[level]); err != nil {
			return err
		}
		h = rootOf(e.levels[level])
		e.levels[level] = e.levels[level][:0]
	}
}

// root is the hash of the tree over all leaves.
func (e *edge) root() tlog.Hash {
	var parts []tlog.Hash // of perfect trees, from the left, each larger than the next
	for level := len(e.levels) - 1; level >= 0; level-- {
		rest := e.levels[level]
		for bit := width / 2; bit > 0; bit /= 2 {
			if len(rest)&bit != 0 {
				parts = append(parts, rootOf(rest[:bit]))
				rest = rest[bit:]
			}
		}
	}
	if len(parts) == 0 {
		return emptyRoot()
	}
	root := parts[len(parts)-1]
	for i := len(parts) - 2; i >= 0; i-- {
		root = tlog.NodeHash(parts[i], root)
	}
	return root
}

// rootOf is the root over a power of two of hashes.
func rootOf(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return tlog.NodeHash(rootOf(hashes[:half]), rootOf(hashes[half:]))
}

func emptyRoot() tlog.Hash {
	root, err := tlog.TreeHash(0, nil)
	if err != nil {
		panic(err) // there is nothing to read, and so nothing to fail
	}
	return root
}

// clone is a copy that does not change with e.
func (e *edge) clone() *edge {
	c := &edge{size: e.size, levels: make([][]tlog.Hash, len(e.levels))}
	for i, l := range e.levels {
		c.levels[i] = append(make([]tlog.Hash, 0, width), l...)
	}
	return c
}
