package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/bailiff-secrets/bailiff/internal/object"
	"github.com/bailiff-secrets/bailiff/internal/secret"
)

// LoadObjects reads the objects that are declared in every *.hcl file of a directory, or in one file. They are of Source
// "apply", in the order of object.Kinds and by name, and each is valid by itself; references between them are judged where
// the whole estate is known (object.Check).
//
// A string may come from env("NAME") or file("path"), relative to the file it stands in; a variable that is not set is an
// error. What one of these gave to a secret field may not stand in a field that is shown. A *.hcl file that another one
// reads with file(), as a policy's rules, is text and declares nothing.
func LoadObjects(dir string, env func(string) (string, bool)) ([]object.Record, error) {
	paths, err := objectFiles(dir)
	if err != nil {
		return nil, err
	}
	l := &loader{env: env, texts: map[string]bool{}}
	for _, path := range paths {
		l.file(path)
	}
	return l.finish()
}

// objectFiles lists what LoadObjects reads, sorted.
func objectFiles(dir string) ([]string, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, reason(dir, err)
	}
	if !info.IsDir() {
		return []string{dir}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, reason(dir, err)
	}
	var paths []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".hcl") && !strings.HasPrefix(name, ".") && !e.IsDir() {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("there is no *.hcl file in %s", dir)
	}
	return paths, nil
}

// loader gathers what the files declare. Nothing is judged across files until all are read, as only then it is known
// which of them are texts.
type loader struct {
	env   func(string) (string, bool)
	files []*objectFile
	texts map[string]bool // the files that were read with file()
}

// declared is an object and where it stands.
type declared struct {
	object.Record
	at    hcl.Range
	where map[string]hcl.Range // of its fields
}

// objectFile is one file's share.
type objectFile struct {
	reader
	path    string
	objects []declared
	secrets map[origin]hcl.Range // used in a secret field
	shown   map[origin]hcl.Range // used in another field
}

func (l *loader) file(path string) {
	f := &objectFile{path: filepath.Clean(path), secrets: map[origin]hcl.Range{}, shown: map[origin]hcl.Range{}}
	f.reader.problems = &problems{}
	l.files = append(l.files, f)
	out := &outside{env: l.env, hide: f.hide, read: l.texts}
	f.ctx = out.context(filepath.Dir(path))
	src, err := readFile(path)
	if err != nil {
		f.list = append(f.list, err)
		return
	}
	if body := f.parse(src, path); body != nil {
		f.read(body, f.root())
	}
}

// finish drops the texts, judges across files, and puts the objects in order.
func (l *loader) finish() ([]object.Record, error) {
	all := &problems{}
	first := map[string]hcl.Range{}
	var out []object.Record
	secrets := map[origin]hcl.Range{}
	for _, f := range l.declaring() {
		all.list = append(all.list, f.list...)
		maps.Copy(secrets, f.secrets)
	}
	for _, f := range l.declaring() {
		for _, d := range f.objects {
			id := fmt.Sprintf("%s %q", d.Kind, d.Name)
			if at, twice := first[id]; twice {
				all.add(d.at, "%s is declared twice: here and at %s:%d:%d", id, at.Filename, at.Start.Line, at.Start.Column)
				continue
			}
			first[id] = d.at
			out = append(out, d.Record)
		}
		for _, o := range slices.SortedFunc(maps.Keys(f.shown), origin.compare) {
			if as, ok := secrets[o]; ok {
				all.add(f.shown[o], "%s is a secret at %s:%d: it can't stand in a field that is shown", o, as.Filename, as.Start.Line)
			}
		}
	}
	if err := all.err(); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b object.Record) int {
		return cmp.Or(cmp.Compare(slices.Index(object.Kinds, a.Kind), slices.Index(object.Kinds, b.Kind)), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

func (l *loader) declaring() []*objectFile {
	return slices.DeleteFunc(slices.Clone(l.files), func(f *objectFile) bool { return l.texts[f.path] })
}

// keep encodes and judges one object.
func (f *objectFile) keep(v any, b *hcl.Block, where map[string]hcl.Range) {
	rec, err := object.Encode(v)
	if err != nil {
		f.add(b.DefRange, "%v", err)
		return
	}
	rec.Source = object.SourceApply
	d := declared{Record: rec, at: b.DefRange, where: where}
	f.objects = append(f.objects, d)
	f.judge(d, object.CheckRecord(rec))
}

// judge places what is wrong with an object at the field that is wrong.
func (f *objectFile) judge(d declared, err error) {
	if err == nil {
		return
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			f.judge(d, e)
		}
		return
	}
	at := d.at
	var p *object.Problem
	if errors.As(err, &p) {
		for _, name := range []string{p.Field, "auth." + p.Field} {
			if r, ok := d.where[name]; ok {
				at = r
			}
		}
	}
	f.add(at, "%v", err)
}

func (f *objectFile) secretText(to *secret.Value) attr {
	return func(v value) error {
		var s string
		if err := text(&s)(v); err != nil {
			return err
		}
		f.hide(s)
		f.note(v, f.secrets)
		*to = secret.New(strings.TrimRight(s, "\r\n")) // a file's last line ends in one
		return nil
	}
}

// noting is set, remembering where a value came from.
func (f *objectFile) noting(set attr, in map[origin]hcl.Range) attr {
	return func(v value) error {
		f.note(v, in)
		return set(v)
	}
}

func (f *objectFile) note(v value, in map[origin]hcl.Range) {
	for _, o := range v.origins {
		if _, ok := in[o]; !ok {
			in[o] = v.at
		}
	}
}
