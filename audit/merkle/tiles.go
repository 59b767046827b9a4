package merkle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// tiles is a directory in the layout of tlog-tiles.
type tiles struct{ dir string }

// path is where a tile lies. tlog.Tile says it with the height in front, which tlog-tiles leaves out.
func (t tiles) path(level int, n int64, w int) string {
	p := tlog.Tile{H: height, L: level, N: n, W: w}.Path()
	return filepath.Join(t.dir, "tile", strings.TrimPrefix(p, fmt.Sprintf("tile/%d/", height)))
}

// write keeps hashes as the tile with number n of a level. A tile is the same whenever it is written.
func (t tiles) write(level int, n int64, hashes []tlog.Hash) error {
	data := make([]byte, 0, len(hashes)*tlog.HashSize)
	for i := range hashes {
		data = append(data, hashes[i][:]...)
	}
	return replace(t.path(level, n, len(hashes)), data)
}

// read gives the hashes of a tile of width w. Where it only lies in a wider one, it is cut out of that.
func (t tiles) read(level int, n int64, w int) ([]tlog.Hash, error) {
	data, err := os.ReadFile(t.path(level, n, w))
	for wider := w + 1; errors.Is(err, fs.ErrNotExist) && wider <= width; wider++ {
		data, err = os.ReadFile(t.path(level, n, wider))
	}
	if err != nil {
		return nil, err
	}
	if len(data) < w*tlog.HashSize {
		return nil, fmt.Errorf("tile %d/%d has %d bytes, want %d", level, n, len(data), w*tlog.HashSize)
	}
	hashes := make([]tlog.Hash, w)
	for i := range hashes {
		copy(hashes[i][:], data[i*tlog.HashSize:])
	}
	return hashes, nil
}

// drop removes the partial tiles with number n of a level but for the one of width keep.
func (t tiles) drop(level int, n int64, keep int) {
	dir := filepath.Dir(t.path(level, n, 1))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if keep == 0 || e.Name() != fmt.Sprint(keep) {
			_ = os.Remove(filepath.Join(dir, e.Name())) // what stays does no harm
		}
	}
	if keep == 0 {
		_ = os.Remove(dir)
	}
}

// edgeAt reads the right edge of the tree of a size.
func (t tiles) edgeAt(size int64) (*edge, error) {
	e := &edge{size: size}
	for n := size; n > 0; n >>= height {
		level, w := len(e.levels), int(n%width)
		hashes := make([]tlog.Hash, 0, width)
		if w > 0 {
			got, err := t.read(level, n>>height, w)
			if err != nil {
				return nil, err
			}
			hashes = append(hashes, got...)
		}
		e.levels = append(e.levels, hashes)
	}
	return e, nil
}

// Height, ReadTiles and SaveTiles make t a tlog.TileReader.
func (t tiles) Height() int { return height }

// ReadTiles reads whole tiles.
func (t tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(want))
	for i, x := range want {
		hashes, err := t.read(x.L, x.N, x.W)
		if err != nil {
			return nil, err
		}
		data := make([]byte, 0, len(hashes)*tlog.HashSize)
		for k := range hashes {
			data = append(data, hashes[k][:]...)
		}
		out[i] = data
	}
	return out, nil
}

// SaveTiles does nothing: what was read is here already.
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// replace writes a file whole or not at all.
func replace(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
