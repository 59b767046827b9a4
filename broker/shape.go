package broker

// Shape is how the credentials of a type of target look to clients of Vault: the engine whose paths and field names they
// have, so that what is written for that engine works. A credential goes out in the fields that the producer made, but for
// those that are listed here. The zero value is <mount>/creds/<role>, read, with every field a text under its own name.
type Shape struct {
	Engine string  // what its mounts are called among secrets engines, as "aws"; empty: "database"
	Ways   []Way   // where credentials are issued; empty: creds/, by reading
	Fields []Field // those that Vault's engine names or types in another way
}

// Way is a directory below a mount that issues: <mount>/<Dir>/<role>.
type Way struct {
	Dir   string // one segment, as "creds", "sts", "issue"
	Read  bool   // a read issues
	Write bool   // a write issues; what its body says that the producer doesn't know is ignored with a warning
}

// Field is how one field of a credential is answered.
type Field struct {
	Name string // as the producer made it
	As   string // its name in the answer; empty: the same
	Kind FieldKind
}

// FieldKind is the JSON type of a field.
type FieldKind int

// The kinds. A value that has not the form of its kind is answered as text.
const (
	Text   FieldKind = iota
	Number           // digits
	Lines            // a list, of a line each
	Blocks           // a list, of a PEM block each
)

// Way finds how a directory issues; ok is false where it doesn't.
func (s Shape) Way(dir string) (w Way, ok bool) {
	if len(s.Ways) == 0 {
		return Way{Dir: "creds", Read: true}, dir == "creds"
	}
	for _, w := range s.Ways {
		if w.Dir == dir {
			return w, true
		}
	}
	return Way{}, false
}
