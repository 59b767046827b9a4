package arch

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Package is a package and what it imports, without the imports of its tests.
type Package struct {
	ImportPath string
	Imports    []string
}

// Check says in one sentence each what breaks the import rule, sorted. Nothing does where it returns nothing.
func Check(packages []Package) []string {
	var broken []string
	for _, p := range packages {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		from, ok := placeOf(name)
		if !ok {
			broken = append(broken, fmt.Sprintf("%s has no level in the table of internal/arch", name))
			continue
		}
		for _, imported := range p.Imports {
			if why := from.check(imported); why != "" {
				broken = append(broken, fmt.Sprintf("%s imports %s: %s", name, strings.TrimPrefix(imported, module+"/"), why))
			}
		}
	}
	slices.Sort(broken)
	return slices.Compact(broken)
}

// place is where a package stands in the table.
type place struct {
	name  string // of the package, without the module
	unit  string // what the table takes it for: the package itself or a folder above it
	entry string // the table's word for that, such as "store/*"
	level int    // counted from the top
}

// placeOf finds the longest entry for a package; of two that are as long, the one that names it.
func placeOf(name string) (place, bool) {
	best, found := place{}, false
	for level, entries := range levels() {
		for _, entry := range entries {
			unit, ok := match(entry, name)
			named := len(unit) == len(best.unit) && entry == unit
			if ok && (!found || len(unit) > len(best.unit) || named) {
				best, found = place{name: name, unit: unit, entry: entry, level: level}, true
			}
		}
	}
	return best, found
}

// match finds the folder that an entry stands for in the path of a package.
func match(entry, name string) (unit string, ok bool) {
	folder, each := strings.CutSuffix(entry, "/*")
	if !each {
		return entry, within(entry, name)
	}
	rest, ok := strings.CutPrefix(name, folder+"/")
	first, _, _ := strings.Cut(rest, "/")
	return folder + "/" + first, ok
}

// within says that name is folder or lies in it.
func within(folder, name string) bool {
	return name == folder || strings.HasPrefix(name, folder+"/")
}

func withinAny(folders []string, name string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return f == anywhere || within(f, name) })
}

// check says why a package here may not import another, or nothing.
func (from place) check(imported string) string {
	if own, ok := strings.CutPrefix(imported, module+"/"); ok {
		return from.checkOwn(own)
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		if within("net/http", imported) && withinAny(noHTTP(), from.name) {
			return "it must never hear of HTTP"
		}
		return ""
	}
	return from.checkForeign(imported)
}

func (from place) checkOwn(own string) string {
	to, ok := placeOf(own)
	switch {
	case !ok:
		return "that has no level in the table of internal/arch"
	case strings.HasSuffix(path.Base(own), "test") && to.unit != "test":
		return "only tests may"
	case from.unit == to.unit:
		return ""
	}
	if few, ok := fenced()[to.unit]; ok && !withinAny(few, from.name) {
		return onlyMay(few)
	}
	for entry, few := range only() {
		if _, ok := match(entry, from.name); !ok {
			continue
		}
		switch {
		case withinAny(few, own):
			return ""
		case len(few) == 0:
			return "it may import nothing of ours"
		}
		return "it may import only " + strings.Join(few, ", ") + " of ours"
	}
	switch {
	case to.level == from.level:
		return "siblings do not import siblings"
	case to.level < from.level:
		return "imports point down only"
	}
	return ""
}

func (from place) checkForeign(imported string) string {
	if from.unit == "test" || strings.HasSuffix(path.Base(from.name), "test") {
		return ""
	}
	entry, folders := "", []string(nil)
	for e, f := range homes() {
		if within(e, imported) && len(e) > len(entry) {
			entry, folders = e, f
		}
	}
	switch {
	case entry == "":
		return "it has no home in the table of internal/arch"
	case !withinAny(folders, from.name):
		return onlyMay(folders)
	}
	return ""
}

func onlyMay(folders []string) string {
	return "only " + strings.Join(append(folders, "tests"), ", ") + " may"
}
